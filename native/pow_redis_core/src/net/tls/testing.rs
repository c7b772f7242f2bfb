//! Test support: TLS servers, and PEM files.

#![cfg(test)]

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, fs, io, process, thread};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::address::Address;
use super::super::endpoint::Endpoint;
use super::super::stream::Stream;
use super::super::testing::soon;
use super::{PROVIDER, TlsConfig};
use crate::error::Error;

/// A certificate of its own authority, for `localhost` and 127.0.0.1, valid from 2020 to 2120.
pub(in crate::net) const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBZTCCAQqgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN2nmJSDjRgYH+s9
6m4mdjt87HUrsrmq0HqzduLznO4cf6xJ49EcG9FYTFQl9GdTQKm9gIQk+9tPkXu0
FJmwcwCjSzBJMAwGA1UdEwEB/wQCMAAwGgYDVR0RBBMwEYIJbG9jYWxob3N0hwR/
AAABMB0GA1UdDgQWBBQorsmtUWCI/WIARl8oWx/4V6RHLDAKBggqhkjOPQQDAgNJ
ADBGAiEA+X2fWT396V3xB5yy0pE6GaW1TB/munUiiFNeaNTdBdMCIQC+PoHt66ul
58uZjUQL5RSR5eoV+57Yd4PTvSF6ivFjCw==
-----END CERTIFICATE-----
";

/// Its private key.
pub(in crate::net) const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVCJZDXj6yvpqKNIw
dRNPBOD+5ShjRQ+EHv/GVywQ9ZChRANCAATdp5iUg40YGB/rPepuJnY7fOx1K7K5
qtB6s3bi85zuHH+sSePRHBvRWExUJfRnU0CpvYCEJPvbT5F7tBSZsHMA
-----END PRIVATE KEY-----
";

/// The private key of no certificate.
pub(super) const OTHER_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgW26vCw0QyXlajxbD
t5T8+5lW4d2hMRhVPUdpNHBMKFKhRANCAATLT1tQIUxW0XIwfYkQ56mJQ4KyNBLz
LzmgEnB0NC5pECMkKrv3XFOFHucf8MXkhebAbhWyRPw0S9d561e4GUyK
-----END PRIVATE KEY-----
";

/// The server's side of a connection.
pub(in crate::net) type Peer = StreamOwned<ServerConnection, TcpStream>;

/// Connects to a TLS server with that certificate. Returns both sides.
pub(in crate::net) fn connect(tls: TlsConfig) -> (Result<Stream, Error>, io::Result<Peer>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || accept(&listener));
    let host = "127.0.0.1".to_owned();
    let endpoint = Endpoint::new(Address::Tcp { host, port }).with_tls(Some(tls));
    let stream = Stream::open(&endpoint, soon());
    (stream, server.join().unwrap())
}

fn accept(listener: &TcpListener) -> io::Result<Peer> {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
    let (mut stream, _) = listener.accept()?;
    // A client that does not begin a handshake must not hang the test.
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// A file that is removed at the end.
pub(in crate::net) struct TemporaryFile(pub(in crate::net) PathBuf);

impl TemporaryFile {
    pub(in crate::net) fn with(content: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pow_redis_{}_{number}.pem", process::id());
        let path = env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
