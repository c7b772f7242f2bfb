//! The byte stream to a server, with or without TLS.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::address::Address;
use super::endpoint::Endpoint;
use super::patience::Patience;
use super::socket::{Socket, Unread};
use super::tls::TlsStream;
use crate::error::Error;

/// The byte stream to a server.
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Connects, and performs the TLS handshake if the endpoint uses TLS.
    pub(crate) fn open(endpoint: &Endpoint, deadline: Instant) -> Result<Self, Error> {
        let socket = Socket::open(&endpoint.address, deadline)?;
        Self::over(endpoint, socket)
    }

    /// Performs the TLS handshake over a socket if the endpoint uses TLS.
    pub(crate) fn over(endpoint: &Endpoint, socket: Socket) -> Result<Self, Error> {
        match (&endpoint.tls, &endpoint.address) {
            (Some(tls), Address::Tcp { host, .. }) => {
                Ok(Self::Tls(Box::new(tls.connect(host, socket)?)))
            }
            _ => Ok(Self::Plain(socket)),
        }
    }

    /// The certificate that the server presented, in DER.
    pub(crate) fn certificate(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.conn.peer_certificates()?.first()?.to_vec()),
        }
    }

    /// Sets how long reads and writes may take.
    pub(crate) fn set_patience(&mut self, patience: Patience) {
        let socket = self.socket();
        match patience.silence {
            Some(silence) => socket.set_patience(patience.deadline, silence),
            None => socket.set_deadline(patience.deadline),
        }
    }

    /// Whether bytes have arrived that have not been read. Does not block. Fails if the peer has closed the
    /// stream.
    pub(crate) fn has_unread(&mut self) -> io::Result<bool> {
        loop {
            match (self.socket().unread()?, &mut *self) {
                (Unread::Nothing, _) => return Ok(false),
                (Unread::End, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                (Unread::Bytes, Self::Plain(_)) => return Ok(true),
                // A record may contain no data: TLS 1.3 sends session tickets.
                (Unread::Bytes, Self::Tls(stream)) => {
                    stream.conn.read_tls(&mut stream.sock)?;
                    let state = stream.conn.process_new_packets();
                    let state = state.map_err(io::Error::other)?;
                    if state.plaintext_bytes_to_read() > 0 {
                        return Ok(true);
                    }
                    if state.peer_has_closed() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// Whether bytes have been taken from the socket that have not been read. Asks only TLS, not the system.
    pub(crate) fn has_decrypted(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => match stream.conn.process_new_packets() {
                Ok(state) => state.plaintext_bytes_to_read() > 0,
                // The next read fails.
                Err(_) => false,
            },
        }
    }

    /// The socket underneath.
    pub(crate) fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::wait_until;
    use super::super::tls::TlsConfig;
    use super::super::tls::testing::{CERTIFICATE, Peer, connect};
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use socket2::SockRef;
    use std::time::Duration;

    fn tls_pair() -> (Stream, Peer) {
        let (stream, peer) = connect(TlsConfig::default().unverified());
        (stream.unwrap(), peer.unwrap())
    }

    fn has_arrived(stream: &mut Stream) -> bool {
        stream.socket().unread().unwrap() != Unread::Nothing
    }

    #[test]
    fn knows_the_certificate_of_the_server() {
        let (stream, _peer) = tls_pair();
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        assert_eq!(stream.certificate(), Some(certificate.to_vec()));
    }

    #[test]
    fn sees_what_is_unread_over_tls() {
        let (mut stream, mut peer) = tls_pair();
        // The server sends session tickets. They are no data.
        peer.flush().unwrap();
        wait_until(|| has_arrived(&mut stream));
        assert!(!stream.has_unread().unwrap());
        peer.write_all(b"a").unwrap();
        wait_until(|| stream.has_unread().unwrap());
        stream.read_exact(&mut [0]).unwrap();
        assert!(!stream.has_unread().unwrap());
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        wait_until(|| stream.has_unread().is_err());
    }

    #[test]
    fn a_write_that_failed_is_told_at_the_flush() {
        let (mut stream, peer) = tls_pair();
        let socket = SockRef::from(&peer.sock);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        wait_until(|| stream.has_unread().is_err());
        let written = stream.write(b"a");
        assert!(written.is_err() || stream.flush().is_err());
    }
}
