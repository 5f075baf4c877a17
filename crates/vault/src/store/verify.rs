//! Checking every stored byte against its address, and removing what nothing refers to.

use std::collections::BTreeSet;

use bytes::Bytes;
use cid::Cid;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::{Object, Store, Table, check};
use crate::{
    cid::{DAG_PB, Digest, RAW, cid_of, digest_of, links},
    error::{Error, Result},
};

/// A blob that is not what its address says, or whose bytes are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBlob {
    /// Address of the blob or object.
    pub cid: Cid,
    /// What is wrong, in words.
    pub problem: String,
}

/// How far a verification has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blobs and objects checked.
    pub checked: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was checked.
    pub checked: Progress,
    /// Tables whose list of keys is damaged: what follows the damage could not be checked.
    pub unreadable: Vec<&'static str>,
    /// What does not match, in the order found.
    pub bad: Vec<BadBlob>,
}

impl Store {
    /// Reads and checks every blob, node and object. Names each bad one and goes on.
    ///
    /// # Errors
    /// [`Error::Database`] if the tables themselves cannot be read.
    pub async fn verify_all(&self, mut progress: impl FnMut(Progress)) -> Result<Report> {
        let mut report = Report::default();
        for (table, codec) in [(Table::Blobs, RAW), (Table::Nodes, DAG_PB)] {
            for key in self.keys_until_damage(table, &mut report) {
                let digest = digest_key(&key?)?;
                let cid = cid_of(codec, &digest)?;
                report.checked.checked += 1;
                match self.value(table, &digest) {
                    Ok(Some(bytes)) => {
                        report.checked.bytes += bytes.len() as u64;
                        if check(codec, &digest, &bytes).is_err() {
                            let problem = "its bytes do not match its address".into();
                            report.bad.push(BadBlob { cid, problem });
                        }
                    }
                    // Removed since its key was read.
                    Ok(None) => {}
                    Err(error) => report.bad.push(damaged(cid, error)?),
                }
                progress(report.checked);
            }
        }
        for key in self.keys_until_damage(Table::Objects, &mut report) {
            let digest = digest_key(&key?)?;
            let cid = cid_of(DAG_PB, &digest)?;
            match self.object(&digest) {
                Ok(Some(object)) => self.verify_object(cid, &object, &mut report).await,
                Ok(None) => {}
                Err(error) => report.bad.push(damaged(cid, error)?),
            }
            report.checked.checked += 1;
            progress(report.checked);
        }
        Ok(report)
    }

    /// The keys up to the first that can't be read for damage, which the report then says.
    fn keys_until_damage(&self, table: Table, report: &mut Report) -> Vec<Result<Bytes>> {
        let mut keys = Vec::new();
        for key in self.keys(table) {
            if let Err(Error::Damaged { table, .. }) = &key {
                report.unreadable.push(table);
                break;
            }
            keys.push(key);
        }
        keys
    }

    /// Whether everything that is stored under a CID is here and what the address says.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Objects`] if it can't be looked at.
    pub async fn is_whole(&self, cid: &Cid) -> Result<bool> {
        match self.check_whole(cid).await {
            Ok(()) => Ok(true),
            Err(
                Error::Mismatch { .. }
                | Error::MissingBlob { .. }
                | Error::Damaged { .. }
                | Error::Malformed { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn check_whole(&self, cid: &Cid) -> Result<()> {
        let missing = || Error::MissingBlob { cid: *cid };
        let root = digest_of(cid)?;
        if cid.codec() != DAG_PB {
            return self.blob(&root)?.map(drop).ok_or_else(missing);
        }
        let mut nodes = vec![*cid];
        while let Some(node) = nodes.pop() {
            let bytes = self.block(&node).await?.ok_or_else(missing)?;
            let inner = links(&bytes)?.into_iter();
            nodes.extend(inner.filter(|link| link.codec() == DAG_PB));
        }
        let object = self.object(&root)?.ok_or_else(missing)?;
        for index in 0..object.leaves.len() {
            self.object_leaf(&object, index).await?;
        }
        Ok(())
    }

    async fn verify_object(&self, cid: Cid, object: &Object, report: &mut Report) {
        for index in 0..object.leaves.len() {
            match self.object_leaf(object, index).await {
                Ok(bytes) => report.checked.bytes += bytes.len() as u64,
                Err(error) => {
                    let problem = format!("leaf {index}: {error}");
                    report.bad.push(BadBlob { cid, problem });
                    return;
                }
            }
        }
    }

    /// Deletes objects that no table refers to: uploads that a crash cut off. Gives their number.
    ///
    /// To be called at start, before anything writes.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::Objects`].
    pub async fn sweep(&self) -> Result<u64> {
        let mut referenced = BTreeSet::new();
        for entry in self.scan(Table::Objects, &[]) {
            match entry.and_then(|(_, description)| Object::decode(&description)) {
                Ok(object) => referenced.insert(object.path()),
                // Without the whole list nothing can be told to be left over.
                Err(error @ (Error::Damaged { .. } | Error::Malformed { .. })) => {
                    tracing::error!(%error, "the list of large objects is damaged; nothing is swept");
                    return Ok(0);
                }
                Err(error) => return Err(error),
            };
        }
        let found: Vec<_> = self
            .objects
            .list(None)
            .map_ok(|found| found.location)
            .try_collect()
            .await
            .map_err(Error::objects("listing"))?;
        let mut swept = 0;
        for location in found {
            if !referenced.contains(&location) {
                self.objects
                    .delete(&location)
                    .await
                    .map_err(Error::objects("deleting"))?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// What is said of a blob whose row is damaged; any other error is handed on.
fn damaged(cid: Cid, error: Error) -> Result<BadBlob> {
    match error {
        Error::Damaged { .. } | Error::Malformed { .. } => Ok(BadBlob {
            cid,
            problem: error.to_string(),
        }),
        error => Err(error),
    }
}

fn digest_key(key: &[u8]) -> Result<Digest> {
    Digest::try_from(key).map_err(|_| Error::Malformed {
        what: "a table of blobs",
        problem: "a key is no digest",
    })
}
