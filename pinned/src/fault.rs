//! Why a link with pinned keys did not come about, as a reader can act on it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use thiserror::Error;

use crate::Pin;

/// Why the peer's key was not taken; travels through rustls.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Unpinned {
    #[error("the key {0} is not among the pins")]
    Stranger(Pin),
    #[error("that is no Ed25519 key")]
    NotEd25519,
    #[error("the pins cannot be read: {0}")]
    NoPins(String),
}

/// What stood in the way.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The peer's key is none of those that it was to have.
    #[error("it shows the key {pin}, which is not among the pins")]
    Stranger {
        /// The key that it showed, and proved or not.
        pin: Pin,
    },
    /// The peer does not take our key.
    #[error("it does not take this side's key")]
    Refused,
    /// The peer speaks an earlier TLS alone.
    #[error("it speaks no TLS 1.3")]
    Version,
    /// The peer speaks TLS with certificates.
    #[error("it speaks TLS with certificates, and no raw Ed25519 keys")]
    Certificates,
    /// The peer speaks something else.
    #[error("what it says is not TLS")]
    NotTls,
    /// Our own pins cannot be read.
    #[error("this side's pins cannot be read: {said}")]
    Pins {
        /// What is wrong with them.
        said: String,
    },
}

impl Fault {
    /// What an error of a TLS stream means; `None` where the stream below failed.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        match error {
            Error::InvalidCertificate(CertificateError::Other(why)) => {
                Some(match why.0.downcast_ref::<Unpinned>() {
                    Some(Unpinned::Stranger(pin)) => Self::Stranger { pin: *pin },
                    Some(Unpinned::NoPins(said)) => Self::Pins { said: said.clone() },
                    Some(Unpinned::NotEd25519) | None => Self::Certificates,
                })
            }
            Error::AlertReceived(alert) => Some(of_alert(*alert)),
            Error::PeerIncompatible(why) => Some(of_incompatible(why)),
            Error::InvalidMessage(_) => Some(Self::NotTls),
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => {
                Some(Self::Certificates)
            }
            _ => None,
        }
    }
}

fn of_alert(alert: AlertDescription) -> Fault {
    match alert {
        AlertDescription::ProtocolVersion => Fault::Version,
        AlertDescription::AccessDenied
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA => Fault::Refused,
        AlertDescription::UnexpectedMessage | AlertDescription::DecodeError => Fault::NotTls,
        _ => Fault::Certificates,
    }
}

fn of_incompatible(why: &PeerIncompatible) -> Fault {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => Fault::Version,
        _ => Fault::Certificates,
    }
}
