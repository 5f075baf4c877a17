//! HL7 v2 from a sender: MLLP frames, character sets, messages, mapping to FHIR, acknowledgements.

use stele_fhir::{
    bundle,
    hl7v2::{Message, Problem, ack, batch, frame, map::Context, take},
    outcome::Issue,
    validate,
};

/// Looks for messages in the bytes (as a stream, as a file, and as one message) and takes each the whole way. What is
/// mapped is valid FHIR; what is refused has a reason and an answer that can be read.
pub fn hl7v2(data: &[u8]) {
    let mut framer = frame::Framer::new(1 << 16);
    framer.push(data);
    framer.finish();
    let mut messages = batch::messages(data);
    messages.push(data.to_vec());
    while let Some(event) = framer.next_event() {
        if let frame::Event::Message(bytes) = event {
            messages.push(bytes);
        }
    }
    let context = Context::new("2026-01-01T00:00:00Z");
    for bytes in messages {
        match take(&bytes, &context) {
            Ok(taken) => {
                let plan = bundle::parse(taken.bundle).unwrap();
                for entry in plan.entries {
                    let resource = entry.resource.unwrap();
                    let issues = validate::resource(&resource.value);
                    assert!(
                        !issues.iter().any(Issue::is_error),
                        "{issues:?}\n{}",
                        resource.text
                    );
                }
            }
            Err((header, problems)) => {
                assert!(problems.iter().any(Problem::is_error));
                let code = ack::Code::ApplicationReject;
                let answer = ack::write(header.as_deref(), code, &problems, "1", "2026");
                assert!(Message::parse(&answer).is_ok(), "{answer}");
            }
        }
    }
}
