//! A UDP socket that tells when the kernel took a datagram in.
//!
//! On one machine that is the time of the sender's system call: the datagram goes through loopback
//! within it. How long the receiver then takes to come to it does not count.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use nix::sys::socket::sockopt::{RcvBuf, ReceiveTimestampns};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Seconds of a stream; the kernel grants less where its limit is lower.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// A datagram that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    /// Its length.
    pub bytes: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// When the kernel took it in, since the Unix epoch; where it does not say, when it was read.
    pub taken_in: Duration,
}

/// Has the kernel note when it takes datagrams in, and hold as many as it may: a time is known of
/// those only that wait until they are read.
pub(crate) fn note_times(socket: &UdpSocket) -> io::Result<()> {
    setsockopt(socket, ReceiveTimestampns, &true)?;
    setsockopt(socket, RcvBuf, &WAITING_BYTES_MAX)?;
    Ok(())
}

/// Waits for the next datagram and puts it into `buffer`.
pub(crate) async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    socket.async_io(Interest::READABLE, || read(socket, buffer)).await
}

fn read(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(buffer)];
    let descriptor = socket.as_raw_fd();
    let message =
        recvmsg::<SockaddrStorage>(descriptor, &mut parts, Some(&mut control), MsgFlags::empty())?;
    let times = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    let source = message.address.and_then(ip).ok_or(io::ErrorKind::InvalidData)?;
    let taken_in = times.unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
    Ok(Datagram { bytes: message.bytes, source, taken_in })
}

fn ip(address: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::from(*address));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::from(*address)))
}
