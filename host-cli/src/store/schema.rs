//! The file of a recording: its marks, its tables, and how it is opened.
//!
//! Owns the checks that stand between a path and a connection. Knows nothing
//! of frames. Source: SQLite, "Database File Format" §1.3 (header), "Pragma".

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use wattline_protocol::record::kind;

use super::error::{Damage, StoreError};
use super::levels;

/// The mark of a Wattline recording in SQLite's header: "WLR1".
pub const APPLICATION_ID: i64 = 0x574C_5231;
/// Version of the tables: 2 since they have summary levels.
pub const VERSION: i64 = 2;
/// First version with summary levels, and with an index of the records that
/// are no samples.
pub(super) const LEVELS_SINCE: i64 = 2;

/// How long a call waits for another program to let go of the file.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Bytes of SQLite's file header.
const HEADER_BYTES: usize = 100;

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE frames (
        epoch INTEGER NOT NULL, stream INTEGER NOT NULL, first INTEGER NOT NULL,
        count INTEGER NOT NULL, kind INTEGER NOT NULL, bytes BLOB NOT NULL,
        PRIMARY KEY (epoch, stream, first));
    CREATE TABLE watermarks (
        epoch INTEGER NOT NULL, stream INTEGER NOT NULL, next INTEGER NOT NULL,
        PRIMARY KEY (epoch, stream)) WITHOUT ROWID;
    CREATE TABLE gaps (
        epoch INTEGER NOT NULL, stream INTEGER NOT NULL, first INTEGER NOT NULL,
        next INTEGER NOT NULL, PRIMARY KEY (epoch, stream, first)) WITHOUT ROWID;
    CREATE TABLE host_records (
        id INTEGER PRIMARY KEY, host_sent_ns INTEGER NOT NULL,
        board_received_ns INTEGER NOT NULL, board_sent_ns INTEGER NOT NULL,
        host_received_ns INTEGER NOT NULL);
";
/// Finds records of a kind among a hundred times as many blocks of samples.
const RECORDS_INDEX: &str =
    "CREATE INDEX records ON frames (kind, epoch, stream, first) WHERE kind <> 32;";
const _: () = assert!(kind::SAMPLE_BLOCK == 32, "as the index has it");

/// Makes a new file with its tables, in WAL mode.
pub(super) fn create(path: &Path) -> Result<Connection, StoreError> {
    if path.exists() {
        return Err(StoreError::AlreadyThere { path: path.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = connect(path, flags)?;
    // The marks go into the file itself before WAL begins: a reader that looks
    // at the header alone finds them from the first moment on.
    fill(path, &connection)?;
    grow(path, &connection)?;
    Ok(connection)
}

/// Makes the tables in a connection without a file, or finds them there.
pub(super) fn within(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let tables = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0));
    match tables.map_err(|error| StoreError::from_sqlite(path, error))? {
        0_i64 => fill(path, connection),
        _ => check_marks(path, connection).map(drop),
    }
}

/// Makes the tables in memory.
pub(super) fn in_memory(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_in_memory().map_err(|error| StoreError::from_sqlite(path, error))?;
    fill(path, &connection)?;
    Ok(connection)
}

fn fill(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let levels = levels::TABLE;
    let text = format!(
        "PRAGMA synchronous = FULL; BEGIN EXCLUSIVE; {TABLES} {levels} {RECORDS_INDEX}
         PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    );
    connection.execute_batch(&text).map_err(|error| StoreError::from_sqlite(path, error))
}

/// What a recording of version 1 lacks, within the caller's transaction.
pub(super) fn to_version_2(connection: &Connection) -> rusqlite::Result<()> {
    let levels = levels::TABLE;
    connection.execute_batch(&format!("{levels} {RECORDS_INDEX} PRAGMA user_version = {VERSION};"))
}

/// Opens a recording that may grow; also its version.
pub(super) fn open_for_append(path: &Path) -> Result<(Connection, i64), StoreError> {
    check_header(path)?;
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let version = check_marks(path, &connection)?;
    grow(path, &connection)?;
    Ok((connection, version))
}

/// Opens a recording that is only read; also its version.
pub(super) fn open_read_only(path: &Path) -> Result<(Connection, i64), StoreError> {
    check_header(path)?;
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let version = check_marks(path, &connection)?;
    Ok((connection, version))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| StoreError::from_sqlite(path, error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_WAIT).map_err(failed)?;
    Ok(connection)
}

fn grow(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(|error| StoreError::from_sqlite(path, error))
}

/// Looks at the file before SQLite does: an empty or foreign file, and one cut
/// short, are told apart here, with their numbers.
fn check_header(path: &Path) -> Result<(), StoreError> {
    let missing = || StoreError::Missing { path: path.to_owned() };
    let foreign = || StoreError::NotARecording { path: path.to_owned() };
    let mut file = File::open(path).map_err(|_| missing())?;
    let have = file.metadata().map_err(|_| missing())?.len();
    let mut header = [0_u8; HEADER_BYTES];
    file.read_exact(&mut header).map_err(|_| foreign())?;
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(foreign());
    }
    let page_bytes = match big_endian::<2>(&header, 16) {
        // A page of 65,536 bytes does not fit in its field.
        1 => 65_536,
        bytes => bytes,
    };
    let need = page_bytes.saturating_mul(big_endian::<4>(&header, 28));
    // The page count holds only where the last writer kept it (same counters),
    // and pages may still wait in the write-ahead log beside the file.
    let counted = big_endian::<4>(&header, 24) == big_endian::<4>(&header, 92);
    if counted && have < need && !has_log(path) {
        let damage = Damage::Truncated { have, need };
        return Err(StoreError::Damaged { path: path.to_owned(), damage });
    }
    Ok(())
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

fn big_endian<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    header.iter().skip(at).take(N).fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn check_marks(path: &Path, connection: &Connection) -> Result<i64, StoreError> {
    let pragma = |name: &str| -> Result<i64, StoreError> {
        connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(|error| StoreError::from_sqlite(path, error))
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(StoreError::NotARecording { path: path.to_owned() });
    }
    let found = pragma("user_version")?;
    if found > VERSION {
        return Err(StoreError::NewerVersion { path: path.to_owned(), found, known: VERSION });
    }
    Ok(found)
}
