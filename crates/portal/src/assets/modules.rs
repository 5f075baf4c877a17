//! The modules that browsers of patients who hold their keys load: our own, and the vendored cryptography.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy_primitives::hex;
use sha2::{Digest as _, Sha256};

/// All modules, under one digest: they name each other by relative addresses.
pub(super) struct Modules {
    pub(super) digest: String,
    pub(super) files: BTreeMap<&'static str, &'static [u8]>,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../assets/", $name)).as_slice())),*]
    };
}

pub(super) static MODULES: LazyLock<Modules> = LazyLock::new(|| {
    let files: BTreeMap<&'static str, &'static [u8]> = embedded![
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
        "own/vault.js",
        "own/wrap.js",
        "vendor/hpke-common/esm/_dnt.shims.js",
        "vendor/hpke-common/esm/mod.js",
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
        "vendor/hpke-common/esm/src/hash/sha3.js",
        "vendor/hpke-common/esm/src/hash/u64.js",
        "vendor/hpke-common/esm/src/identifiers.js",
        "vendor/hpke-common/esm/src/interfaces/aeadEncryptionContext.js",
        "vendor/hpke-common/esm/src/interfaces/dhkemPrimitives.js",
        "vendor/hpke-common/esm/src/interfaces/kemInterface.js",
        "vendor/hpke-common/esm/src/kdfs/hkdf.js",
        "vendor/hpke-common/esm/src/kems/dhkem.js",
        "vendor/hpke-common/esm/src/kems/dhkemPrimitives/ec.js",
        "vendor/hpke-common/esm/src/kems/dhkemPrimitives/xCurve.js",
        "vendor/hpke-common/esm/src/kems/hybridkem.js",
        "vendor/hpke-common/esm/src/utils/bignum.js",
        "vendor/hpke-common/esm/src/utils/misc.js",
        "vendor/hpke-common/esm/src/utils/noble.js",
        "vendor/hpke-common/esm/src/xCryptoKey.js",
        "vendor/hpke-core/esm/mod.js",
        "vendor/hpke-core/esm/src/aeads/aesGcm.js",
        "vendor/hpke-core/esm/src/aeads/exportOnly.js",
        "vendor/hpke-core/esm/src/cipherSuiteNative.js",
        "vendor/hpke-core/esm/src/encryptionContext.js",
        "vendor/hpke-core/esm/src/exporterContext.js",
        "vendor/hpke-core/esm/src/kems/dhkemNative.js",
        "vendor/hpke-core/esm/src/kems/dhkemPrimitives/x25519.js",
        "vendor/hpke-core/esm/src/kems/dhkemPrimitives/x448.js",
        "vendor/hpke-core/esm/src/kems/dhkemX25519.js",
        "vendor/hpke-core/esm/src/kems/dhkemX448.js",
        "vendor/hpke-core/esm/src/mutex.js",
        "vendor/hpke-core/esm/src/native.js",
        "vendor/hpke-core/esm/src/recipientContext.js",
        "vendor/hpke-core/esm/src/senderContext.js",
        "vendor/hpke-core/esm/src/utils/emitNotSupported.js",
        "vendor/hpke-dhkem-x25519/esm/mod.js",
        "vendor/hpke-dhkem-x25519/esm/src/dhkemX25519.js",
        "vendor/hpke-dhkem-x25519/esm/src/hkdfSha256.js",
        "vendor/hpke-dhkem-x25519/esm/src/primitives/x25519.js",
        "vendor/hpke-x-wing/esm/mod.js",
        "vendor/hpke-x-wing/esm/src/xWing.js",
        "vendor/mlkem/esm/_dnt.shims.js",
        "vendor/mlkem/esm/mod.js",
        "vendor/mlkem/esm/src/consts.js",
        "vendor/mlkem/esm/src/deps.js",
        "vendor/mlkem/esm/src/errors.js",
        "vendor/mlkem/esm/src/mlKem1024.js",
        "vendor/mlkem/esm/src/mlKem1024Base.js",
        "vendor/mlkem/esm/src/mlKem1024Impl.js",
        "vendor/mlkem/esm/src/mlKem512.js",
        "vendor/mlkem/esm/src/mlKem512Base.js",
        "vendor/mlkem/esm/src/mlKem512Impl.js",
        "vendor/mlkem/esm/src/mlKem768.js",
        "vendor/mlkem/esm/src/mlKem768Impl.js",
        "vendor/mlkem/esm/src/mlKemBase.js",
        "vendor/mlkem/esm/src/sha3/_u64.js",
        "vendor/mlkem/esm/src/sha3/sha3.js",
        "vendor/mlkem/esm/src/sha3/utils.js",
        "vendor/mlkem/esm/src/utils.js",
    ]
    .into();
    let mut hasher = Sha256::new();
    for (name, content) in &files {
        hasher.update(name.as_bytes());
        hasher.update(Sha256::digest(content));
    }
    let digest = hex::encode(hasher.finalize());
    Modules {
        digest: digest.get(..16).unwrap_or_default().to_owned(),
        files,
    }
});

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

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
            let text = std::str::from_utf8(content).expect("text");
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
