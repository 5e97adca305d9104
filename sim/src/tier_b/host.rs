//! A machine of its own: a network namespace with one address, and processes in it.

use std::io;
use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, unshare};

/// Packets that wait for the router, or for the host, at most.
const DEVICE_QUEUE_PACKETS: u32 = 1000;

const MTU: u16 = 1500;

type Job = Box<dyn FnOnce() + Send>;

/// A host. Its namespace lives as long as this and the processes in it.
pub struct Host {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Where its packets come out.
    pub device: Arc<tun_rs::SyncDevice>,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Host {
    /// A host at `address`; everything that is not itself it reaches by its device.
    pub fn new(address: Ipv4Addr) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (made, making) = mpsc::channel();
        // Namespaces belong to threads: what this thread starts is in it.
        let thread = std::thread::Builder::new().name("host".into()).spawn(move || {
            let _ = made.send(network(address));
            for job in queue {
                job();
            }
        })?;
        let device = making.recv().map_err(io::Error::other)??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), device: Arc::new(device), address })
    }

    /// Does something inside.
    pub fn inside<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (done, doing) = mpsc::channel();
        let job: Job = Box::new(move || {
            // Nobody waits any more where the run is over.
            let _ = done.send(job());
        });
        let jobs = self.jobs.as_ref().ok_or_else(|| io::Error::other("the host is gone"))?;
        jobs.send(job).map_err(|_| io::Error::other("the host is gone"))?;
        doing.recv().map_err(io::Error::other)
    }

    /// Starts a process inside.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.inside(move || command.spawn())?
    }

    /// Gives the host another address.
    pub fn roam(&mut self, address: Ipv4Addr) -> io::Result<()> {
        let old = std::mem::replace(&mut self.address, address);
        self.inside(move || {
            ip(&format!("address delete {old}/32 dev tun0"))?;
            ip(&format!("address add {address}/32 dev tun0"))?;
            ip("route replace default dev tun0")
        })?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes this thread's own network.
fn network(address: Ipv4Addr) -> io::Result<tun_rs::SyncDevice> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    // Router solicitations and the like would be packets that no plan asked for. Not for loopback,
    // which is there already: chromedriver does not start without `::1`.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let device =
        tun_rs::DeviceBuilder::new().name("tun0").mtu(MTU).build_sync().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "{error}: no TUN device can be made: is /dev/net/tun there and open to you?"
                ),
            )
        })?;
    ip("link set lo up")?;
    ip(&format!("link set tun0 up txqueuelen {DEVICE_QUEUE_PACKETS}"))?;
    ip(&format!("address add {address}/32 dev tun0"))?;
    ip("route add default dev tun0")?;
    fcntl(&device, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(device)
}

/// iproute2, in this thread's network.
fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| {
        io::Error::new(error.kind(), format!("ip: {error}: install Debian's iproute2"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {arguments}: {}", said.trim())))
}
