//! Writing a large blob as it comes, without holding it.

use bytes::Bytes;
use object_store::{ObjectStoreExt, WriteMultipart};
use rand_core::Rng;
use stele_core::crypto::os_rng;

use super::{Object, Store, Table, Writes, object_path};
use crate::{
    cid::{DAG_PB, Imported, Importer, LEAF_LEN, digest_of},
    error::{Error, Result},
};

/// Parts of an upload; S3 wants at least 5 MiB, and one is held in memory while it fills.
const PART_LEN: usize = 5 << 20;
/// Parts on their way at once.
const PARTS_MAX: usize = 2;

/// Takes ciphertext piece by piece. What stays within one leaf becomes a blob, more an object.
///
/// Dropping it before it is finished leaves at most an unreferenced object, found and removed by
/// [`Store::sweep`].
pub struct ObjectWriter<'a> {
    store: &'a Store,
    name: [u8; 16],
    importer: Importer,
    /// All bytes so far while they fit one leaf; afterwards what is not handed on yet.
    held: Vec<u8>,
    upload: Option<WriteMultipart>,
}

impl Store {
    /// Starts writing a blob of unknown length.
    pub fn object_writer(&self) -> ObjectWriter<'_> {
        let mut name = [0; 16];
        os_rng().fill_bytes(&mut name);
        ObjectWriter {
            store: self,
            name,
            importer: Importer::default(),
            held: Vec::new(),
            upload: None,
        }
    }
}

impl ObjectWriter<'_> {
    /// Takes more bytes.
    ///
    /// # Errors
    /// [`Error::DiskFull`]; [`Error::Objects`] if the object store refuses.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let held = self.held.len().saturating_add(bytes.len());
        self.store.committer.require_room(held as u64)?;
        self.importer.push(bytes);
        if let Some(upload) = &mut self.upload {
            upload
                .wait_for_capacity(PARTS_MAX)
                .await
                .map_err(Error::objects("writing an object"))?;
            upload.write(bytes);
            return Ok(());
        }
        self.held.extend_from_slice(bytes);
        if self.held.len() > LEAF_LEN {
            let upload = self
                .store
                .objects
                .put_multipart(&object_path(&self.name))
                .await
                .map_err(Error::objects("starting an object"))?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_LEN);
            upload.put(Bytes::from(std::mem::take(&mut self.held)));
            self.upload = Some(upload);
        }
        Ok(())
    }

    /// Ends a blob that was fetched from elsewhere, durably, if it is the one this CID names. It takes the place of
    /// what was stored under the CID before, which may be damaged.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is not; what was written of it is removed by [`Store::sweep`].
    /// [`Error::Objects`], [`Error::Database`], [`Error::DiskFull`].
    pub async fn finish_fetched(self, cid: &cid::Cid) -> Result<()> {
        let mut writes = Writes::default();
        let store = self.store;
        let imported = self.finish(&mut writes).await?;
        if imported.cid != *cid {
            return Err(Error::Mismatch { cid: *cid });
        }
        // One whose description is damaged is left to the next sweep.
        let before = match store.object(&digest_of(cid)?) {
            Ok(before) => before,
            Err(Error::Damaged { .. } | Error::Malformed { .. }) => None,
            Err(error) => return Err(error),
        };
        store.commit(writes).await?;
        match before {
            Some(before) => store.delete_object(&before).await,
            None => Ok(()),
        }
    }

    /// Ends the blob: an object is durable when this returns, and referenced once `writes` is
    /// committed.
    ///
    /// # Errors
    /// [`Error::Objects`] if the object store refuses.
    pub(crate) async fn finish(self, writes: &mut Writes) -> Result<Imported> {
        let imported = self.importer.finish()?;
        let root = digest_of(&imported.cid)?;
        let Some(upload) = self.upload else {
            writes.put(Table::Blobs, root.to_vec(), self.held);
            return Ok(imported);
        };
        upload
            .finish()
            .await
            .map_err(Error::objects("ending an object"))?;
        debug_assert_eq!(
            imported.cid.codec(),
            DAG_PB,
            "more than one leaf has a root node"
        );
        for node in &imported.nodes {
            writes.put(Table::Nodes, node.digest.to_vec(), node.bytes.to_vec());
        }
        for (index, leaf) in imported.leaves.iter().enumerate() {
            let mut place = root.to_vec();
            place.extend_from_slice(&u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
            writes.put(Table::Leaves, leaf.to_vec(), place);
        }
        let object = Object {
            name: self.name,
            size_bytes: imported.size_bytes,
            leaves: imported.leaves.clone(),
        };
        writes.put(Table::Objects, root.to_vec(), object.encode());
        Ok(imported)
    }
}
