//! Compiles SQLite with encryption (SQLite3 Multiple Ciphers) for the `rusqlite` of this workspace.
//!
//! `libsqlite3-sys` is built with `in_gecko`, which brings its bindings and nothing to link; the functions they
//! name come from the archive built here. See `docs/adr/0003-index-encryption.md`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = sqlite3mc_src::source_dir();
    let mut build = cc::Build::new();
    build
        .file(folder.join(sqlite3mc_src::SOURCE_FILE))
        .include(folder)
        .warnings(false)
        // SQLite at -O0 makes every debug test an order slower; its own assertions are off either way.
        .opt_level(3)
        .cargo_metadata(false);
    for (name, value) in DEFINES {
        build.define(name, *value);
    }
    build.compile("sqlite3mc");
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    println!("cargo:rustc-link-search=native={out}");
    // Whole, because libsqlite3-sys, which refers to it, stands after it in the linker's order.
    println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=sqlite3mc");
}

/// What the index needs of SQLite, and nothing that opens a door: no extension loading, no double-quoted strings.
/// Temporary tables stay in memory (`TEMP_STORE=3`), because temporary files would not be encrypted.
const DEFINES: &[(&str, Option<&str>)] = &[
    ("HAVE_ISNAN", None),
    ("HAVE_LOCALTIME_R", None),
    ("HAVE_USLEEP", Some("1")),
    ("SQLITE_CORE", None),
    ("SQLITE_DEFAULT_MEMSTATUS", Some("0")),
    ("SQLITE_DQS", Some("0")),
    ("SQLITE_ENABLE_FTS5", None),
    ("SQLITE_LIKE_DOESNT_MATCH_BLOBS", None),
    ("SQLITE_OMIT_DEPRECATED", None),
    ("SQLITE_OMIT_LOAD_EXTENSION", None),
    ("SQLITE_OMIT_SHARED_CACHE", None),
    ("SQLITE_SECURE_DELETE", None),
    ("SQLITE_TEMP_STORE", Some("3")),
    ("SQLITE_THREADSAFE", Some("2")),
];
