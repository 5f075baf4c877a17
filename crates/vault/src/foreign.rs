//! Records that another member keeps and a grantee here may read: a copy of meta, encapsulation and ciphertext.
//!
//! The pepper stays with the custodian that [`RecordMeta::custodian`] names, so a copy opens nothing without asking
//! there, each time.

use crate::{
    RecordMeta, Vault,
    envelope::Encapsulation,
    error::{Error, Result},
    meta::table_key,
    store::{Table, Writes},
};

impl Vault {
    /// Keeps copies of record versions of other members, durably. A version that is here already, or was erased here,
    /// is passed over.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a meta without a custodian or with an encapsulation that is neither given nor here;
    /// [`Error::DiskFull`], [`Error::Database`].
    pub async fn adopt(
        &self,
        metas: &[RecordMeta],
        encapsulations: &[Encapsulation],
    ) -> Result<()> {
        let malformed = |problem| Error::Malformed {
            what: "a record of another member",
            problem,
        };
        let mut writes = Writes::default();
        for meta in metas {
            if meta.custodian.is_none() {
                return Err(malformed("it names no custodian"));
            }
            let (record, version) = (meta.record(), meta.version());
            match self.meta(&record, version) {
                Ok(None) => {}
                Ok(Some(_)) | Err(Error::Erased { .. }) => continue,
                Err(error) => return Err(error),
            }
            if let Some(envelope) = &meta.envelope {
                if meta.preimage.envelope_digest.0 != envelope.digest(&record, version) {
                    return Err(malformed("its envelope is not the one its leaf commits to"));
                }
                let given = encapsulations
                    .iter()
                    .find(|given| given.digest() == envelope.encapsulation);
                match given {
                    Some(given) => {
                        let digest = envelope.encapsulation.to_vec();
                        writes.put(Table::Encapsulations, digest, given.encode());
                    }
                    None => drop(self.encapsulation(&envelope.encapsulation)?),
                }
            }
            if let Some(sealed) = meta.seal(&self.records)? {
                writes.put(Table::Meta, table_key(&record, version), sealed);
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        self.store.commit(writes).await
    }
}
