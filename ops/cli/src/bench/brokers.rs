//! Brokers of this very binary that a measurement starts for itself: one, or a cluster of several.
//!
//! Invariant: none outlives the value that stands for it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream_client::{Client, ClientConfig};
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::cluster::ClusterStatus;
use millstream_transport::issue_into;

use crate::connection::call;
use crate::failure::{Failure, Result};

/// How long a start may take, or brokers to agree.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(5);
/// Ports below those that systems give to clients: still free when a broker comes back to its own.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A broker's process.
pub(super) struct Process(Child);

impl Process {
    /// Starts `millstream serve`, which says only what goes wrong.
    pub(super) fn start(
        data: &Path,
        (listen, admin): (SocketAddr, SocketAddr),
        more: &[String],
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--log-level", "error", "--listen", &listen.to_string()]);
        command.args(["--admin", &admin.to_string()]).arg("--data-dir").arg(data).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to stop, and waits until it has.
    pub(super) fn stop(mut self) -> Result {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new("the broker has no process id"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(std::io::Error::from)?;
        self.0.wait()?;
        Ok(())
    }

    /// SIGKILL: nothing is flushed, nothing is told.
    pub(super) fn kill(mut self) -> Result {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two addresses of this machine that are free now: UDP for clients, TCP for the admin port.
pub(super) fn any_addresses() -> Result<(SocketAddr, SocketAddr)> {
    let listen = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    Ok((listen, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?))
}

/// Brokers 1 to N, each in a directory of its own.
pub(super) struct Fleet {
    members: Vec<Member>,
}

struct Member {
    data: PathBuf,
    addresses: (SocketAddr, SocketAddr),
    more: Vec<String>,
    process: Option<Process>,
}

impl Fleet {
    /// Starts so many in `dir`; an odd number of them, at most five, votes on the metadata when this returns.
    pub(super) async fn start(count: u32, dir: &Path) -> Result<Self> {
        let mut fleet = Self { members: Vec::new() };
        for number in 1..=count {
            fleet.add(number, dir)?;
            // Who founds the cluster has to be there for the others.
            fleet.client().await?.close().await;
        }
        let client = fleet.client().await?;
        until("the brokers to agree on who votes", async || {
            let status = call(&client, ClusterStatus {}).await?;
            let known = status.standings.len() == count as usize;
            let odd = (count.min(5) - 1) / 2 * 2 + 1;
            Ok(known && status.voters.len() == odd as usize)
        })
        .await?;
        client.close().await;
        Ok(fleet)
    }

    fn add(&mut self, number: u32, dir: &Path) -> Result {
        let data = dir.join(format!("broker-{number}"));
        let mut more = vec!["--node-id".to_owned(), number.to_string()];
        if let Some(first) = self.members.first() {
            let host = Ipv4Addr::LOCALHOST.to_string();
            issue_into(&first.data, NodeId(number), &[host], &data).map_err(Failure::new)?;
            more.extend(["--join".to_owned(), self.addresses().join(",")]);
        }
        let addresses = (free_port()?, free_port()?);
        self.members.push(Member { data, addresses, more, process: None });
        self.restart(NodeId(number))
    }

    /// A client that knows all of them.
    pub(super) async fn client(&self) -> Result<Client> {
        let authority = self.members[0].data.join("ca.pem");
        let connecting = async {
            loop {
                let config = ClientConfig::new(self.addresses()).ca_file(&authority);
                match Client::connect(config).await {
                    Ok(client) => break client,
                    Err(_) => tokio::time::sleep(ASK_EVERY).await,
                }
            }
        };
        let connected = tokio::time::timeout(PATIENCE, connecting).await;
        connected.map_err(|_| Failure::new("no broker could be reached"))
    }

    /// What another process needs to be their client: their addresses, and the authority's file.
    pub(super) fn reached_by(&self) -> (String, PathBuf) {
        (self.addresses().join(","), self.members[0].data.join("ca.pem"))
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, node: NodeId) -> Result {
        self.member(node)?.process.take().map_or(Ok(()), Process::kill)
    }

    /// Starts one that was killed. Does not wait.
    pub(super) fn restart(&mut self, node: NodeId) -> Result {
        let member = self.member(node)?;
        member.process = Some(Process::start(&member.data, member.addresses, &member.more)?);
        Ok(())
    }

    /// Stops all of them.
    pub(super) fn stop(self) -> Result {
        self.members.into_iter().filter_map(|member| member.process).try_for_each(Process::stop)
    }

    fn member(&mut self, NodeId(number): NodeId) -> Result<&mut Member> {
        let member = self.members.get_mut((number as usize).wrapping_sub(1));
        member.ok_or_else(|| Failure::new(format!("there is no broker {number}")))
    }

    fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.addresses.0.to_string()).collect()
    }
}

/// Asks again and again until it is so.
pub(super) async fn until(what: &str, so: impl AsyncFn() -> Result<bool>) -> Result {
    let asking = async {
        while !so().await? {
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    asked.map_err(|_| Failure::new(format!("waited {} s for {what}", PATIENCE.as_secs())))?
}

fn free_port() -> Result<SocketAddr> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    let own = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + own.wrapping_add(step.wrapping_mul(7)) % count;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if UdpSocket::bind(addr).is_ok() && TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err(Failure::new("no port is free"))
}
