//! Version of the layout on disk.

use super::{
    Error, rows,
    store::{Batch, Store, Table},
};

/// Version of the layout this program writes.
pub const FORMAT: u32 = 1;

/// A step from one format to the next. It must be repeatable: a crash may come before the new version is noted.
struct Migration {
    from: u32,
    run: fn(&dyn Store) -> Result<(), Error>,
}

/// Every step, in order. Format 1 is the first.
const MIGRATIONS: &[Migration] = &[];

/// Brings the store to [`FORMAT`], step by step.
///
/// # Errors
/// [`Error::NewerFormat`], [`Error::UnknownFormat`], or a failed step.
pub(crate) fn migrate(store: &dyn Store, height: u64) -> Result<(), Error> {
    migrate_to(store, height, FORMAT, MIGRATIONS)
}

fn migrate_to(
    store: &dyn Store,
    height: u64,
    supported: u32,
    migrations: &[Migration],
) -> Result<(), Error> {
    let Some(mut found) = read(store, height)? else {
        return write(store, supported);
    };
    if found > supported {
        return Err(Error::NewerFormat { found, supported });
    }
    while found < supported {
        let step = migrations.iter().find(|step| step.from == found);
        (step.ok_or(Error::UnknownFormat { found })?.run)(store)?;
        found = found.saturating_add(1);
        write(store, found)?;
    }
    Ok(())
}

fn read(store: &dyn Store, height: u64) -> Result<Option<u32>, Error> {
    let Some(row) = rows::read(&*store.snapshot(), Table::Meta, KEY, height)? else {
        return Ok(None);
    };
    let bytes = <[u8; 4]>::try_from(row.as_ref())
        .map_err(|_| Error::damaged(height, "the format version is not a number"))?;
    Ok(Some(u32::from_be_bytes(bytes)))
}

fn write(store: &dyn Store, format: u32) -> Result<(), Error> {
    let mut batch = Batch::default();
    rows::put(&mut batch, Table::Meta, KEY, &format.to_be_bytes());
    store.write(batch)
}

const KEY: &[u8] = b"format";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryStore;

    #[test]
    fn a_newer_format_is_refused_and_an_older_one_migrated() {
        let store = MemoryStore::new();
        migrate(&store, 0).unwrap();
        assert_eq!(read(&store, 0).unwrap(), Some(FORMAT));
        migrate(&store, 0).unwrap();

        let step = |store: &dyn Store| {
            let mut batch = Batch::default();
            rows::put(&mut batch, Table::Meta, b"migrated", b"yes");
            store.write(batch)
        };
        let migrations = [Migration {
            from: FORMAT,
            run: step,
        }];
        migrate_to(&store, 0, FORMAT + 1, &migrations).unwrap();
        let migrated = rows::read(&*store.snapshot(), Table::Meta, b"migrated", 0).unwrap();
        assert_eq!(migrated.unwrap().as_ref(), b"yes");
        assert!(matches!(
            migrate(&store, 0),
            Err(Error::NewerFormat { found, supported }) if found == FORMAT + 1 && supported == FORMAT
        ));

        write(&store, 0).unwrap();
        assert!(matches!(
            migrate(&store, 0),
            Err(Error::UnknownFormat { found: 0 })
        ));
    }
}
