#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_fuzz_targets::hl7v2(data));
