//! What rustls is told: TLS 1.3 alone, raw public keys alone, pins alone.
//!
//! Owns the verifiers. A peer's key must be among the pins and its signature over
//! the handshake must be that key's; both are checked. Nothing is resumed: each
//! link proves its key anew, so that a revoked one comes back by no ticket.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
};

use crate::fault::Unpinned;
use crate::{OwnKey, Peers, Pin};

/// How the side that dials is set: it shows `own`, and takes `peers`.
///
/// # Errors
/// rustls's own, where its provider and TLS 1.3 do not fit.
pub fn client_config(own: &OwnKey, peers: Peers) -> Result<Arc<ClientConfig>, Error> {
    let resolver = AlwaysResolvesClientRawPublicKeys::new(own.certified());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinVerifier { peers }))
        .with_client_cert_resolver(Arc::new(resolver));
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// How the side that is dialled is set: it shows the one of its keys that the
/// other asks for ([`wished_key`]), else the first, and takes `peers`.
///
/// # Errors
/// rustls's own, where its provider and TLS 1.3 do not fit.
pub fn server_config(own: &[OwnKey], peers: Peers) -> Result<Arc<ServerConfig>, Error> {
    let keys = own.iter().map(|key| (wish(key.pin()), key.certified())).collect();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(PinVerifier { peers }))
        .with_cert_resolver(Arc::new(WishedKey { keys }));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The server name by which the dialling side says which key it knows the other
/// by: while a rotation goes on, the other has two.
#[must_use]
pub fn wished_key(pin: Pin) -> ServerName<'static> {
    // A text of hexadecimal digits, letters and dots is a domain name.
    ServerName::try_from(wish(pin))
        .unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()))
}

/// The peer's pin, once the handshake is done.
#[must_use]
pub fn pin_of(keys: Option<&[CertificateDer<'_>]>) -> Option<Pin> {
    Pin::of_spki(keys?.first()?)
}

fn wish(pin: Pin) -> String {
    // RFC 2606: never anybody's name.
    format!("key-{}.wattline.invalid", pin.short())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes the key of a peer, and no certificate.
#[derive(Debug)]
struct PinVerifier {
    peers: Peers,
}

impl PinVerifier {
    fn check(&self, key: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let refused = |why: Unpinned| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
        };
        let pin = Pin::of_spki(key).filter(|_| more.is_empty());
        let pin = pin.ok_or_else(|| refused(Unpinned::NotEd25519))?;
        match self.peers.find(pin) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(refused(Unpinned::Stranger(pin))),
            Err(error) => Err(refused(Unpinned::NoPins(error.to_string()))),
        }
    }
}

fn signed(
    message: &[u8],
    key: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(key.as_ref());
    let algorithms = ring::default_provider().signature_verification_algorithms;
    verify_tls13_signature_with_raw_key(message, &key, signature, &algorithms)
}

/// TLS 1.2 is not compiled in; were it, it would end here.
fn never_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken".to_owned()))
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        never_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PinVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        never_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Shows the key that is asked for, else the first.
#[derive(Debug)]
struct WishedKey {
    keys: Vec<(String, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for WishedKey {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let wished = self.keys.iter().find(|(name, _)| Some(name.as_str()) == asked);
        wished.or(self.keys.first()).map(|(_, key)| Arc::clone(key))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}
