//! The database file: two tables, each value behind a checksum of its own, and a format number.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};

use super::failed;
use crate::body::BodyId;
use crate::id::JobId;
use crate::job::Job;
use crate::store::StoreError;

/// The format that is written. One that is older is brought here by [`MIGRATIONS`] when a store is opened; a newer one is
/// refused.
const FORMAT: u64 = 1;

/// What leads from one format to the next: the first entry from 1 to 2, and so on. Each runs in the transaction that
/// writes the new number.
const MIGRATIONS: [Migration; (FORMAT - 1) as usize] = [];

type Migration = fn(&redb::WriteTransaction) -> Result<(), redb::Error>;

/// The formats that are known: the one that is written is one more than there are migrations.
type Known<'m> = &'m [Migration];

const JOBS: TableDefinition<u128, &[u8]> = TableDefinition::new("jobs");
const BODIES: TableDefinition<u128, &[u8]> = TableDefinition::new("bodies");
const META: TableDefinition<&str, u64> = TableDefinition::new("longshore");

/// Pages of the database in memory, in bytes.
const CACHE: usize = 32 << 20;

const FILE: &str = "jobs.redb";

pub(super) struct Table {
    database: Database,
    path: PathBuf,
}

impl Table {
    /// Opens the file, or makes one where there is nothing yet.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_knowing(folder, &MIGRATIONS)
    }

    fn open_knowing(folder: &Path, known: Known<'_>) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() == 0 => return Err(damaged(&path, "it is empty")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(folder, &path)?,
            Err(error) => return Err(failed(&path, &error)),
        }
        // A file that is damaged in some places makes the library panic.
        let opened = std::panic::catch_unwind(|| Database::builder().set_cache_size(CACHE).open(&path));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(not_opened(&path, error)),
            Err(_) => return Err(damaged(&path, "it cannot be read")),
        };
        let table = Self { database, path };
        table.guarded(|| table.migrate(known))?;
        Ok(table)
    }

    fn migrate(&self, known: Known<'_>) -> Result<(), StoreError> {
        let wanted = known.len() as u64 + 1;
        let write = || -> Result<Option<u64>, redb::Error> {
            let transaction = self.database.begin_write()?;
            let format = transaction.open_table(META)?.get("format")?.map(|format| format.value());
            let Some(format) = format.filter(|format| (1..wanted).contains(format)) else {
                return Ok(format);
            };
            tracing::info!(path = %self.path.display(), from = format, to = wanted, "the job store gets a newer format");
            for migration in known.iter().skip((format - 1) as usize) {
                migration(&transaction)?;
            }
            transaction.open_table(META)?.insert("format", wanted)?;
            transaction.commit()?;
            Ok(Some(wanted))
        };
        match write().map_err(|error| self.failed(error))? {
            Some(format) if format == wanted => Ok(()),
            Some(format) if format > wanted => Err(StoreError::Corrupt(format!(
                "{} has format {format}, and this longshore knows formats up to {wanted}: use the newer longshore that \
                 wrote it, or take the jobs over with its `longshore jobs export`",
                self.path.display()
            ))),
            Some(_) | None => Err(damaged(&self.path, "it has no format number")),
        }
    }

    /// Every record. `each` is called in the order of the ids.
    pub(super) fn each(&self, mut each: impl FnMut(Job)) -> Result<(), StoreError> {
        self.guarded(|| {
            let mut read = || -> Result<Option<String>, redb::Error> {
                let transaction = self.database.begin_read()?;
                for entry in transaction.open_table(JOBS)?.iter()? {
                    let (id, value) = entry?;
                    match decode(value.value()) {
                        Some(job) if job.id.to_bits() == id.value() => each(job),
                        Some(_) | None => {
                            let id = JobId::from_bits(id.value());
                            return Ok(Some(format!("the record of job {id} is not what was written")));
                        }
                    }
                }
                Ok(None)
            };
            match read().map_err(|error| self.failed(error))? {
                None => Ok(()),
                Some(what) => Err(damaged(&self.path, &what)),
            }
        })
    }

    pub(super) fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        let read = || -> Result<Result<Vec<Option<Job>>, JobId>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(JOBS)?;
            let mut jobs = Vec::with_capacity(ids.len());
            for id in ids {
                match table.get(id.to_bits())? {
                    None => jobs.push(None),
                    Some(value) => match decode(value.value()) {
                        Some(job) => jobs.push(Some(job)),
                        None => return Ok(Err(*id)),
                    },
                }
            }
            Ok(Ok(jobs))
        };
        self.guarded(|| {
            read()
                .map_err(|error| self.failed(error))?
                .map_err(|id| damaged(&self.path, &format!("the record of job {id} is not what was written")))
        })
    }

    pub(super) fn body(&self, id: BodyId) -> Result<Bytes, StoreError> {
        let read = || -> Result<Option<Bytes>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let value = transaction.open_table(BODIES)?.get(id.to_bits())?;
            Ok(value.and_then(|value| unsealed(value.value()).map(Bytes::copy_from_slice)))
        };
        self.guarded(|| {
            read()
                .map_err(|error| self.failed(error))?
                .ok_or_else(|| damaged(&self.path, &format!("the body {id} is not what was written")))
        })
    }

    /// Writes records, and returns when they are on the disk.
    pub(super) fn put<'j>(&self, jobs: impl Iterator<Item = &'j Job>) -> Result<(), StoreError> {
        self.write(true, |rows| jobs.into_iter().try_for_each(|job| rows.put(job)))
    }

    /// One transaction. What lasts is on the disk when this returns.
    pub(super) fn write(
        &self,
        lasting: bool,
        change: impl FnOnce(&mut Rows<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(if lasting { Durability::Immediate } else { Durability::None })?;
            {
                let (jobs, bodies) = (transaction.open_table(JOBS)?, transaction.open_table(BODIES)?);
                change(&mut Rows { jobs, bodies })?;
            }
            transaction.commit()?;
            Ok(())
        };
        self.guarded(|| write().map_err(|error| self.failed(error)))
    }

    fn guarded<T>(&self, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        std::panic::catch_unwind(AssertUnwindSafe(act))
            .unwrap_or_else(|_| Err(damaged(&self.path, "it cannot be read")))
    }

    fn failed(&self, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Corrupted(what) => damaged(&self.path, &what),
            redb::Error::Io(error) => unreadable(&self.path, &error),
            other => StoreError::Unavailable(format!("{}: {other}", self.path.display())),
        }
    }
}

/// The tables in a transaction.
pub(super) struct Rows<'t> {
    jobs: redb::Table<'t, u128, &'static [u8]>,
    bodies: redb::Table<'t, u128, &'static [u8]>,
}

impl Rows<'_> {
    pub(super) fn put(&mut self, job: &Job) -> Result<(), redb::Error> {
        self.jobs.insert(job.id.to_bits(), encode(job).as_slice())?;
        Ok(())
    }

    pub(super) fn remove(&mut self, job: JobId) -> Result<(), redb::Error> {
        self.jobs.remove(job.to_bits())?;
        Ok(())
    }

    pub(super) fn put_body(&mut self, id: BodyId, body: &[u8]) -> Result<(), redb::Error> {
        self.bodies.insert(id.to_bits(), sealed(body).as_slice())?;
        Ok(())
    }

    pub(super) fn remove_body(&mut self, id: BodyId) -> Result<(), redb::Error> {
        self.bodies.remove(id.to_bits())?;
        Ok(())
    }
}

/// Makes an empty database beside the place and moves it there: what is found there was once complete.
fn create(folder: &Path, path: &Path) -> Result<(), StoreError> {
    if std::fs::read_dir(folder.join("bodies")).is_ok_and(|mut bodies| bodies.next().is_some()) {
        return Err(damaged(path, "it is missing, though bodies of jobs are there"));
    }
    let new = folder.join(format!("{FILE}.new"));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&new, &error)),
        Ok(()) | Err(_) => {}
    }
    let write = || -> Result<(), redb::Error> {
        let database = Database::create(&new)?;
        let transaction = database.begin_write()?;
        transaction.open_table(JOBS)?;
        transaction.open_table(BODIES)?;
        transaction.open_table(META)?.insert("format", FORMAT)?;
        transaction.commit()?;
        Ok(())
    };
    write().map_err(|error| StoreError::Unavailable(format!("{}: {error}", new.display())))?;
    std::fs::rename(&new, path).map_err(|error| failed(path, &error))?;
    super::bodies::sync_folder(folder).map_err(|error| failed(folder, &error))
}

fn not_opened(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::Locked(format!(
                "{} is open in another process: is a longshore running with the same [jobs] store? Several \
                 of them can share one with store = \"redis://…\"",
                path.display()
            ))
        }
        DatabaseError::Storage(StorageError::Io(error)) => unreadable(path, &error),
        DatabaseError::RepairAborted
        | DatabaseError::UpgradeRequired(_)
        | DatabaseError::TransactionInProgress
        | DatabaseError::Storage(_) => damaged(path, &error.to_string()),
        other => damaged(path, &other.to_string()),
    }
}

/// A file that ends too early is damaged; other failures are the disk's.
fn unreadable(path: &Path, error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
            damaged(path, &error.to_string())
        }
        _ => failed(path, error),
    }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "the job store {} is damaged ({what}) and is left as it is: put a copy of its folder back, or move the folder \
         away and begin with an empty one (`longshore jobs import` reads what `longshore jobs export` once wrote)",
        path.display()
    ))
}

fn encode(job: &Job) -> Vec<u8> {
    // A record holds nothing that JSON cannot.
    sealed(&serde_json::to_vec(job).unwrap_or_default())
}

fn decode(value: &[u8]) -> Option<Job> {
    serde_json::from_slice(unsealed(value)?).ok()
}

fn sealed(value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(value.len() + 8);
    sealed.extend_from_slice(&checksum(value).to_le_bytes());
    sealed.extend_from_slice(value);
    sealed
}

fn unsealed(sealed: &[u8]) -> Option<&[u8]> {
    let (sum, value) = sealed.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*sum) == checksum(value)).then_some(value)
}

/// FNV-1a over words: enough to see damage, which nobody does on purpose.
pub(super) fn checksum(value: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut sum = 0xcbf2_9ce4_8422_2325 ^ value.len() as u64;
    for word in value.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        sum = (sum ^ u64::from_le_bytes(bytes)).wrapping_mul(PRIME);
        sum ^= sum >> 32;
    }
    sum
}

#[cfg(test)]
pub(super) mod tests;
