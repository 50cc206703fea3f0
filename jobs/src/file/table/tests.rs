use super::*;
use crate::job::Status;

pub(in crate::file) fn set_format(path: &Path, format: u64) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", format).unwrap();
    transaction.commit().unwrap();
}

/// A record as format 1 has it. It stays readable: a change that breaks this needs a new format, and a migration.
const RECORD: &str = r#"{"id":"01a1fe6659ff7460805af6bc0c634df5","rev":7,"service":"calc",
    "request":{"method":"POST","target":"/factorize?x=1","headers":[["content-type","application/json"]],
        "peer":"127.0.0.1:5","tls":true,"key":"alice"},
    "input":{"id":"019b7ba7-0d7e-7d52-9c1f-0c5f0d4a3b21","length":9},
    "state":{"status":"failed","started_at":4,"finished_at":9,
        "answer":{"status":502,"headers":[],"body":{"id":"019b7ba7-0d7e-7d52-9c1f-0c5f0d4a3b22","length":3},"trailers":[]}},
    "attempts":2,"submitted_at":1,"ttl":{"input":10,"result":20},
    "key":{"key":"order-1","scope":"alice","fingerprint":"ff"},"identity":null,
    "callback":{"url":"http://127.0.0.1/","attempts":1,"next":12,"delivered_at":null,"error":"refused"}}"#;

/// A file of format 1 with that record.
fn of_format_1(folder: &Path) -> JobId {
    std::fs::create_dir_all(folder.join("bodies")).unwrap();
    let table = Table::open_knowing(folder, &[]).unwrap();
    let job: Job = serde_json::from_str(RECORD).unwrap();
    table
        .write(true, |rows| {
            rows.jobs.insert(job.id.to_bits(), &*sealed(RECORD.as_bytes())).map(drop).map_err(Into::into)
        })
        .unwrap();
    job.id
}

/// From format 1 to 2: services have other names.
fn rename(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(JOBS)?;
    let mut jobs = Vec::new();
    for entry in table.iter()? {
        jobs.extend(decode(entry?.1.value()));
    }
    for job in jobs {
        let job = Job { service: format!("new-{}", job.service), ..job };
        table.insert(job.id.to_bits(), encode(&job).as_slice())?;
    }
    Ok(())
}

/// From format 2 to 3: a table more.
fn add(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(TableDefinition::<u64, u64>::new("more"))?.insert(1, 1)?;
    Ok(())
}

fn fail(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    rename(transaction)?;
    Err(redb::Error::Corrupted("a record that nobody expected".to_owned()))
}

fn refused(opened: Result<Table, StoreError>) -> String {
    match opened {
        Err(StoreError::Corrupt(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[test]
fn a_record_of_format_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let id = of_format_1(folder.path());
    let job = Table::open(folder.path()).unwrap().get(&[id]).unwrap().remove(0).unwrap();
    assert_eq!((job.status(), job.attempts, job.service.as_str()), (Status::Failed, 2, "calc"));
    assert_eq!(job.bodies().map(|body| body.length).collect::<Vec<_>>(), [9, 3]);
    assert_eq!(job.callback.as_ref().unwrap().attempts, 1);
    let again: Job = serde_json::from_slice(unsealed(&encode(&job)).unwrap()).unwrap();
    assert_eq!(again, job);
}

#[test]
fn an_older_format_is_brought_to_the_present_one_once() {
    let folder = tempfile::tempdir().unwrap();
    let id = of_format_1(folder.path());
    for _ in 0..2 {
        let table = Table::open_knowing(folder.path(), &[rename, add]).unwrap();
        let job = table.get(&[id]).unwrap().remove(0).unwrap();
        assert_eq!(job.service, "new-calc", "every step is taken, and none twice");
        let read = table.database.begin_read().unwrap();
        assert_eq!(read.open_table(META).unwrap().get("format").unwrap().unwrap().value(), 3);
        read.open_table(TableDefinition::<u64, u64>::new("more")).unwrap();
    }
    let older = refused(Table::open_knowing(folder.path(), &[rename]));
    assert!(
        older.contains("format 3") && older.contains("up to 2") && older.contains("newer longshore"),
        "{older}"
    );
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let id = of_format_1(folder.path());
    let text = refused(Table::open_knowing(folder.path(), &[fail]));
    assert!(text.contains("nobody expected") && text.contains("left as it is"), "{text}");
    let table = Table::open_knowing(folder.path(), &[]).unwrap();
    assert_eq!(table.get(&[id]).unwrap().remove(0).unwrap().service, "calc");
}

#[test]
fn damage_of_any_byte_is_seen() {
    let value: Vec<u8> = (0..100).collect();
    let whole = sealed(&value);
    assert_eq!(unsealed(&whole), Some(&*value));
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        assert_eq!(unsealed(&damaged), None, "byte {at}");
    }
    assert_eq!(unsealed(&whole[..whole.len() - 1]), None);
    assert_eq!(unsealed(b"short"), None);
}
