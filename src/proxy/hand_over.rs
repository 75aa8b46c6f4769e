//! Hand-over: a successor takes the listening sockets over, so that no connection is refused while a new binary takes the place of the old.
//!
//! The successor comes first: it waits on a Unix socket. The one that serves, told by SIGQUIT, connects to it, sends its listeners,
//! and goes on serving until the successor says that it does. Where nobody waits, or nobody says so in time, nothing has happened.
//!
//! pingora's own hand-over leaves its socket open to everybody, and ends the old process whether anybody took over or not.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// How long a successor waits to be handed the listeners.
const WAIT: Duration = Duration::from_secs(60);
/// How long the one that serves waits for its successor to serve.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Listeners that are handed over at the most, the admin listener among them.
const MOST: usize = 64;
const MOST_BYTES: usize = 64 << 10;
/// What a successor says when it serves.
const SERVING: [u8; 1] = [1];

/// The listeners that a successor was given, and whom to tell that they are served.
pub struct Inherited {
    listeners: Vec<(SocketAddr, TcpListener)>,
    predecessor: UnixStream,
}

impl Inherited {
    /// Waits on `socket` for whoever serves now.
    pub fn wait(socket: &Path) -> Result<Self, String> {
        let failed = |what: &str, error: std::io::Error| format!("cannot {what} {}: {error}", socket.display());
        let listener = listen(socket)?;
        listener.set_nonblocking(true).map_err(|error| failed("listen on", error))?;
        let late_at = Instant::now() + WAIT;
        let accepted = loop {
            match listener.accept() {
                Ok((stream, _)) => break Ok(stream),
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break Err(failed("listen on", error)),
                Err(_) if Instant::now() >= late_at => {
                    break Err(format!(
                        "nobody handed over within {WAIT:?}: send SIGQUIT to the process that serves, or start without --upgrade"
                    ));
                }
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        };
        // Nobody else is to find it.
        let _ = std::fs::remove_file(socket);
        let mut predecessor = accepted?;
        let received = receive(&mut predecessor).map_err(|error| failed("take over from", error))?;
        Ok(Self { listeners: received, predecessor })
    }

    /// The listener on this address, if it was handed over.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.listeners.iter().position(|(known, _)| *known == address)?;
        Some(self.listeners.swap_remove(at).1)
    }

    /// Tells the predecessor that it may end. What nobody took is closed.
    pub(super) fn confirm(mut self) {
        if let Err(error) = self.predecessor.write_all(&SERVING) {
            tracing::warn!("the predecessor did not hear that it may end: {error}");
        }
    }
}

/// The socket, in a directory of its own that nobody else can look into.
fn listen(socket: &Path) -> Result<UnixListener, String> {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| format!("cannot use {}: {error}", folder.display());
    if !folder.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let found = std::fs::metadata(folder).map_err(failed)?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    if !is_ours || found.permissions().mode() & 0o022 != 0 {
        return Err(format!(
            "{} is open to others, who could take the listeners: hand_over.socket needs a directory of its own, mode 0700",
            folder.display()
        ));
    }
    // It is there for others only once it listens, and takes the place of what an earlier successor left behind.
    let unready = socket.with_extension(std::process::id().to_string());
    let cannot = |what: &str, error: std::io::Error| format!("cannot {what} {}: {error}", socket.display());
    let _ = std::fs::remove_file(&unready);
    let listener = UnixListener::bind(&unready).map_err(|error| cannot("listen on", error))?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&unready, private)
        .and_then(|()| std::fs::rename(&unready, socket))
        .map_err(|error| cannot("close to others", error))?;
    Ok(listener)
}

/// Hands the listeners to whoever waits on `socket` and returns when they are served there; else says why not.
pub(super) fn hand_over(socket: &Path, listeners: &[(SocketAddr, TcpListener)]) -> Result<(), String> {
    let mut successor = UnixStream::connect(socket).map_err(|error| {
        format!("nobody waits on {}: {error}; start the successor first, with --upgrade", socket.display())
    })?;
    let handed = send(&mut successor, listeners).and_then(|()| {
        let mut said = [0; 1];
        successor.set_read_timeout(Some(PATIENCE))?;
        successor.read_exact(&mut said).map(|()| said == SERVING)
    });
    match handed {
        Ok(true) => Ok(()),
        Ok(false) => Err("the successor says something else than that it serves".to_owned()),
        Err(error) => Err(format!("the successor did not say that it serves: {error}")),
    }
}

/// The length of the list of addresses, with all sockets beside it, and the list.
fn send(successor: &mut UnixStream, listeners: &[(SocketAddr, TcpListener)]) -> std::io::Result<()> {
    same_user(successor)?;
    let addresses: Vec<&SocketAddr> = listeners.iter().map(|(address, _)| address).collect();
    let list = serde_json::to_vec(&addresses)?;
    let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(|(_, listener)| listener.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let length = u32::try_from(list.len()).map_err(std::io::Error::other)?.to_be_bytes();
    if !beside.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(std::io::Error::other("there are too many listeners"));
    }
    successor.set_write_timeout(Some(PATIENCE))?;
    rustix::net::sendmsg(&*successor, &[IoSlice::new(&length)], &mut beside, SendFlags::empty())?;
    successor.write_all(&list)
}

fn receive(predecessor: &mut UnixStream) -> std::io::Result<Vec<(SocketAddr, TcpListener)>> {
    same_user(predecessor)?;
    predecessor.set_nonblocking(false)?;
    predecessor.set_read_timeout(Some(PATIENCE))?;
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(&*predecessor, &mut [IoSliceMut::new(&mut length)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let sockets: Vec<OwnedFd> = beside
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    let length = u32::from_be_bytes(length) as usize;
    if received.bytes != 4 || length > MOST_BYTES {
        return Err(std::io::Error::other("what came is no hand-over"));
    }
    let mut list = vec![0; length];
    predecessor.read_exact(&mut list)?;
    let addresses: Vec<SocketAddr> = serde_json::from_slice(&list)?;
    if addresses.len() != sockets.len() {
        return Err(std::io::Error::other("not every listener came"));
    }
    Ok(addresses.into_iter().zip(sockets.into_iter().map(TcpListener::from)).collect())
}

/// Both ends belong to the same user; root may stand in for anybody.
fn same_user(stream: &UnixStream) -> std::io::Result<()> {
    let other = rustix::net::sockopt::socket_peercred(stream)?.uid;
    let is_same = other == rustix::process::geteuid() || other.is_root();
    if is_same { Ok(()) } else { Err(std::io::Error::other("the other process belongs to somebody else")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_arrive_with_their_addresses_and_are_given_to_who_asks() {
        let (mut old, mut new) = UnixStream::pair().unwrap();
        let bound: Vec<_> = (0..3)
            .map(|_| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                (listener.local_addr().unwrap(), listener)
            })
            .collect();
        let addresses: Vec<SocketAddr> = bound.iter().map(|(address, _)| *address).collect();
        send(&mut old, &bound).unwrap();
        drop(bound);
        let mut inherited = Inherited { listeners: receive(&mut new).unwrap(), predecessor: new };
        for address in &addresses[..2] {
            assert_eq!(inherited.take(*address).unwrap().local_addr().unwrap(), *address);
            assert!(inherited.take(*address).is_none());
        }
        assert!(std::net::TcpStream::connect(addresses[2]).is_ok(), "it is held for whoever wants it");
        inherited.confirm();
        assert!(std::net::TcpStream::connect(addresses[2]).is_err(), "nobody took it");
        let mut said = [0; 1];
        old.read_exact(&mut said).unwrap();
        assert_eq!(said, SERVING);
    }

    #[test]
    fn what_is_no_hand_over_is_not_taken() {
        let (mut old, mut new) = UnixStream::pair().unwrap();
        old.write_all(b"\0\0\0\x02[]\0\0").unwrap();
        assert_eq!(receive(&mut new).unwrap().len(), 0);
        let (mut old, mut new) = UnixStream::pair().unwrap();
        old.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(receive(&mut new).is_err());
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(listen(&open.join("socket")).unwrap_err().contains("mode 0700"));
        let made = folder.path().join("made");
        listen(&made.join("socket")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&made), mode(&made.join("socket"))), (0o700, 0o600));
    }

    #[test]
    fn without_a_successor_nothing_is_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        assert!(hand_over(&folder.path().join("socket"), &[]).unwrap_err().contains("--upgrade"));
    }
}
