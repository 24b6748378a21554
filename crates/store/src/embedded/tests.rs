//! The store in a file, where it is more than what both stores promise.

mod ageing;
mod closing;
mod disk;
mod formats;
mod model;
mod power;

use std::path::Path;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::history::{HISTORY, Kept};
use super::leases::{LEASED, LEASES};
use super::rows::META;
use super::*;
use crate::{Change, Changes, Store, Watch, Watched};

/// A folder with a store in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("store.redb")
    }

    fn open(&self) -> Store {
        Store::open(&self.path()).unwrap()
    }

    /// With little history, and a look behind.
    fn open_keeping(&self, kept: Kept) -> (Store, Arc<Shared>) {
        opened(&self.path(), database::file_at(&self.path()).unwrap(), kept).unwrap()
    }
}

fn opened(path: &Path, open: Box<Open>, kept: Kept) -> Result<(Store, Arc<Shared>), StoreError> {
    let embedded = Embedded::open_by(path, open, kept)?;
    let shared = Arc::clone(&embedded.0);
    Ok((Store::of(embedded), shared))
}

async fn committed(store: &Store, transaction: Transaction) -> u64 {
    match store.commit(transaction).await.unwrap() {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict { .. } => panic!("a comparison does not hold"),
    }
}

async fn changes(watch: &mut Watch) -> Changes {
    match watch.next().await.unwrap() {
        Watched::Changes(changes) => changes,
        Watched::Resumed => panic!("it was never away for its watches"),
    }
}

/// Everything that the tables say of each other holds.
fn assert_whole(shared: &Shared) {
    let checked = shared.held.carry_out(|database| {
        let read = database.begin_read().unwrap();
        let meta = read.open_table(META).unwrap();
        let revision = rows::revision(&meta).unwrap();
        let history = read.open_table(HISTORY).unwrap();
        let entries: Vec<_> = history.iter().unwrap().map(Result::unwrap).collect();
        let numbers = entries.iter().map(|(number, _)| number.value());
        assert!(numbers.eq(revision + 1 - entries.len() as u64..=revision), "one entry for each revision");
        let bytes: u64 = entries.iter().map(|(_, entry)| entry.value().len() as u64).sum();
        assert_eq!(history::bytes(&meta).unwrap(), bytes);

        let rows = rows::page(database, b"", b"", usize::MAX).unwrap().rows;
        let oldest = revision + 1 - entries.len() as u64;
        for row in rows.iter().filter(|row| row.mod_revision >= oldest) {
            let told = history::pull(database, &row.key, row.mod_revision).unwrap().changes;
            assert!(told[0].changes.contains(&Change::Put(row.clone())), "{row:?} and {told:?}");
        }
        let leases = read.open_table(LEASES).unwrap();
        let mut of_rows: Vec<_> =
            rows.iter().filter_map(|row| Some((row.lease?.number(), row.key.clone()))).collect();
        of_rows.sort();
        assert!(of_rows.iter().all(|(lease, _)| leases.get(lease).unwrap().is_some()));
        let leased = read.open_table(LEASED).unwrap();
        let leased: Vec<_> = leased.iter().unwrap().map(Result::unwrap).collect();
        let leased = leased.iter().map(|(row, _)| (row.value().0, row.value().1.to_vec()));
        assert!(leased.eq(of_rows), "each key that goes with a lease is listed, and no other");
        assert_eq!(leases.len().unwrap(), leases::read(&leases).unwrap().len() as u64);
        Ok(())
    });
    checked.unwrap();
}
