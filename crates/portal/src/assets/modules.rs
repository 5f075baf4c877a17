//! The modules that browsers of patients who hold their keys load: our own, and the vendored cryptography.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy_primitives::hex;
use sha2::{Digest as _, Sha256};

use super::packed::Packed;

/// All modules, under one digest: they name each other by relative addresses.
pub(super) struct Modules {
    pub(super) digest: String,
    pub(super) files: BTreeMap<&'static str, Packed>,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../assets/", $name)).as_slice())),*]
    };
}

/// The modules as they lie in `assets/`.
static SOURCES: &[(&str, &[u8])] = &embedded![
    "own/add.js",
    "own/app.js",
    "own/bytes.js",
    "own/calls.js",
    "own/check.js",
    "own/claim.js",
    "own/devices.js",
    "own/download.js",
    "own/entry.js",
    "own/file.js",
    "own/hpke.js",
    "own/keccak.js",
    "own/keys.js",
    "own/local.js",
    "own/made.js",
    "own/page.js",
    "own/record.js",
    "own/seal.js",
    "own/share.js",
    "own/show.js",
    "own/sign.js",
    "own/stop.js",
    "own/store.js",
    "own/text.js",
    "own/trend.js",
    "own/vault.js",
    "own/versions.js",
    "own/wrap.js",
    "vendor/hpke-common/esm/_dnt.shims.js",
    "vendor/hpke-common/esm/src/algorithm.js",
    "vendor/hpke-common/esm/src/consts.js",
    "vendor/hpke-common/esm/src/curve/curve.js",
    "vendor/hpke-common/esm/src/curve/modular.js",
    "vendor/hpke-common/esm/src/curve/montgomery.js",
    "vendor/hpke-common/esm/src/errors.js",
    "vendor/hpke-common/esm/src/hash/hash.js",
    "vendor/hpke-common/esm/src/hash/hmac.js",
    "vendor/hpke-common/esm/src/hash/md.js",
    "vendor/hpke-common/esm/src/hash/sha2.js",
    "vendor/hpke-common/esm/src/hash/u64.js",
    "vendor/hpke-common/esm/src/identifiers.js",
    "vendor/hpke-common/esm/src/interfaces/aeadEncryptionContext.js",
    "vendor/hpke-common/esm/src/interfaces/dhkemPrimitives.js",
    "vendor/hpke-common/esm/src/interfaces/kemInterface.js",
    "vendor/hpke-common/esm/src/kdfs/hkdf.js",
    "vendor/hpke-common/esm/src/kems/dhkem.js",
    "vendor/hpke-common/esm/src/kems/dhkemPrimitives/xCurve.js",
    "vendor/hpke-common/esm/src/utils/misc.js",
    "vendor/hpke-common/esm/src/utils/noble.js",
    "vendor/hpke-common/esm/src/xCryptoKey.js",
    "vendor/hpke-core/esm/src/aeads/aesGcm.js",
    "vendor/hpke-core/esm/src/cipherSuiteNative.js",
    "vendor/hpke-core/esm/src/encryptionContext.js",
    "vendor/hpke-core/esm/src/exporterContext.js",
    "vendor/hpke-core/esm/src/mutex.js",
    "vendor/hpke-core/esm/src/recipientContext.js",
    "vendor/hpke-core/esm/src/senderContext.js",
    "vendor/hpke-core/esm/src/utils/emitNotSupported.js",
    "vendor/hpke-dhkem-x25519/esm/src/dhkemX25519.js",
    "vendor/hpke-dhkem-x25519/esm/src/hkdfSha256.js",
    "vendor/hpke-dhkem-x25519/esm/src/primitives/x25519.js",
    "vendor/hpke-x-wing/esm/src/xWing.js",
    "vendor/mlkem/esm/_dnt.shims.js",
    "vendor/mlkem/esm/src/consts.js",
    "vendor/mlkem/esm/src/deps.js",
    "vendor/mlkem/esm/src/errors.js",
    "vendor/mlkem/esm/src/mlKem768.js",
    "vendor/mlkem/esm/src/mlKemBase.js",
    "vendor/mlkem/esm/src/sha3/_u64.js",
    "vendor/mlkem/esm/src/sha3/sha3.js",
    "vendor/mlkem/esm/src/sha3/utils.js",
    "vendor/mlkem/esm/src/utils.js",
];

/// A module without indentation and without the comments that have lines of their own, which are a third of what is sent.
/// Notices of licences (`/*!`) stay. A test holds that no module has a text over several lines, which this would change.
fn lean(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    let mut out = String::with_capacity(text.len());
    let mut is_comment = false;
    for line in text.lines().map(str::trim) {
        if is_comment {
            is_comment = !line.contains("*/");
            continue;
        }
        let begins = line.starts_with("/*") && !line.starts_with("/*!");
        if begins && !line.contains("*/") {
            is_comment = true;
            continue;
        }
        let is_whole = begins && line.ends_with("*/") && line.matches("*/").count() == 1;
        if is_whole || line.starts_with("//") || line.is_empty() {
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

pub(super) static MODULES: LazyLock<Modules> = LazyLock::new(|| {
    let files: BTreeMap<&'static str, &'static [u8]> = SOURCES.iter().copied().collect();
    let mut hasher = Sha256::new();
    for (name, content) in &files {
        hasher.update(name.as_bytes());
        hasher.update(Sha256::digest(content));
    }
    let digest = hex::encode(hasher.finalize());
    let packed = |content: &'static [u8]| {
        Packed::new(
            "text/javascript; charset=utf-8",
            lean(content).into_bytes().into(),
        )
    };
    Modules {
        digest: digest.get(..16).unwrap_or_default().to_owned(),
        files: files
            .into_iter()
            .map(|(name, content)| (name, packed(content)))
            .collect(),
    }
});

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn modules_are_served_without_comments() {
        let source = "/*! MIT License */\n/**\n * Words.\n */\nconst one = 1; // kept\n  // Words.\n  /* Words. */\n    go(); /* kept */\n\n/* @__PURE__ */ (() => 1)();\n";
        assert_eq!(
            lean(source.as_bytes()),
            "/*! MIT License */\nconst one = 1; // kept\ngo(); /* kept */\n/* @__PURE__ */ (() => 1)();\n"
        );
        for (name, content) in SOURCES {
            let text = std::str::from_utf8(content).expect("text");
            for (at, line) in text.lines().enumerate() {
                let is_comment = line.trim_start().starts_with(['*', '/']);
                assert!(
                    is_comment || line.matches('`').count() % 2 == 0,
                    "{name}:{} begins or ends a text of several lines",
                    at + 1
                );
            }
        }
    }

    /// Every module that lies in the folders is handed out, and none asks for one that is not.
    #[test]
    fn modules_are_complete() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut found = BTreeSet::new();
        let mut waiting = vec![folder.join("own"), folder.join("vendor")];
        while let Some(at) = waiting.pop() {
            for entry in std::fs::read_dir(at).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    waiting.push(path);
                } else if path.extension().is_some_and(|end| end == "js") {
                    let name = path.strip_prefix(&folder).expect("inside");
                    found.insert(name.to_str().expect("a name").to_owned());
                }
            }
        }
        let embedded: BTreeSet<String> = MODULES.files.keys().map(ToString::to_string).collect();
        assert_eq!(embedded, found);
        for (name, content) in &MODULES.files {
            let text = std::str::from_utf8(content.plain()).expect("text");
            for named in text
                .split("from \"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
            {
                if named.starts_with('.') && named.ends_with(".js") {
                    let mut at: Vec<&str> = name.split('/').collect();
                    at.pop();
                    for part in named.split('/') {
                        match part {
                            "." => {}
                            ".." => drop(at.pop()),
                            part => at.push(part),
                        }
                    }
                    assert!(
                        MODULES.files.contains_key(at.join("/").as_str()),
                        "{name} asks for {named}"
                    );
                }
            }
        }
    }
}
