//! The key that one side has for itself.
//!
//! Owns its making and its file: one line of text that only its owner may read.
//! Source of the encoding: RFC 8410 §7.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use thiserror::Error;

use crate::Pin;
use crate::base64;

/// What stands before a secret key in its file.
pub(crate) const PREFIX: &str = "wattline-secret:ed25519:";
/// PKCS#8 of Ed25519 up to the 32 bytes of the secret.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// A file of ours is far shorter.
const FILE_LEN_MAX: u64 = 4096;

/// An Ed25519 key with its secret.
#[derive(Debug, Clone)]
pub struct OwnKey {
    pin: Pin,
    certified: Arc<CertifiedKey>,
}

/// Why there is no key of one's own.
#[derive(Debug, Error)]
pub enum KeyError {
    /// No key was made yet.
    #[error("there is no key {}", path.display())]
    Missing {
        /// Its file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("key {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Others may read it.
    #[error("key {} may be read by others (mode {mode:03o}); make it yours alone: chmod 600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds something else.
    #[error("{} holds no key of Wattline", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The kernel gives no random numbers, or the library takes no key.
    #[error("no key can be made of the kernel's random numbers")]
    Random,
}

impl OwnKey {
    /// Makes a key and writes it to `path`, for its owner alone (mode 0600); what
    /// was there is replaced at once or not at all.
    ///
    /// # Errors
    /// [`KeyError`] naming the file.
    pub fn make(path: &Path) -> Result<Self, KeyError> {
        let mut secret = [0; 32];
        let random = ring::default_provider().secure_random;
        random.fill(&mut secret).map_err(|_| KeyError::Random)?;
        let key = Self::of_secret(&secret).ok_or(KeyError::Random)?;
        let text = format!(
            "# Secret key of this side; its pin is {}\n{PREFIX}{}\n",
            key.pin,
            base64::encode(&secret)
        );
        write_whole(path, text.as_bytes(), 0o600)
            .map_err(|source| KeyError::File { path: path.to_owned(), source })?;
        Ok(key)
    }

    /// Reads the key at `path`.
    ///
    /// # Errors
    /// [`KeyError`] naming the file.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
            _ => KeyError::File { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(FILE_LEN_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut keys = text.lines().filter_map(|line| line.trim().strip_prefix(PREFIX));
        let secret = keys.next().and_then(base64::decode);
        let key = secret.and_then(|secret| Self::of_secret(&secret));
        key.ok_or_else(|| KeyError::NotAKey { path: path.to_owned() })
    }

    fn of_secret(secret: &[u8; 32]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from([&PKCS8_HEAD[..], secret].concat());
        let signing: Arc<dyn SigningKey> = ring::sign::any_eddsa_type(&der).ok()?;
        let spki = signing.public_key()?;
        let pin = Pin::of_spki(spki.as_ref())?;
        let certified = CertifiedKey::new(vec![CertificateDer::from(pin.spki())], signing);
        Some(Self { pin, certified: Arc::new(certified) })
    }

    /// What the other side is given of it.
    #[must_use]
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// Writes a file beside its place and moves it there, so that a cut leaves the
/// whole old or the whole new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_key_of_the_rfc_has_the_public_key_of_the_rfc() {
        // RFC 8410 §10.3 (v1) and §10.1.
        let secret = base64::decode("1O5y2/kTWErVttjx92n4rTr+fCjL8dT74Jeoj0R1WEI");
        let key = OwnKey::of_secret(&secret.unwrap()).unwrap();
        let public = "wattline-key:ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE";
        assert_eq!(key.pin().to_string(), public);
    }

    #[test]
    fn a_key_comes_back_from_its_file_which_others_may_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.key");
        assert!(matches!(OwnKey::read(&path), Err(KeyError::Missing { .. })));
        let made = OwnKey::make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(OwnKey::read(&path).unwrap().pin(), made.pin());
        assert_ne!(OwnKey::make(&path).unwrap().pin(), made.pin());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(OwnKey::read(&path), Err(KeyError::Open { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "ssh-ed25519 AAAA\n").unwrap();
        assert!(matches!(OwnKey::read(&path), Err(KeyError::NotAKey { .. })));
    }
}
