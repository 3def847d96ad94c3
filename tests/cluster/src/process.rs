//! A broker: one `millstream serve` in a directory of its own, at ports that stay the same.
//!
//! Invariant: it is ready when `start` or `restart` returns, and gone when this value is dropped. A
//! failing test shows what it said; `MILLSTREAM_TEST_LOG=debug` makes it say more.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use millstream_client::{BackoffConfig, Client, ClientConfig};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::binary;
use crate::wait::until;

/// A start on a busy machine, recovery included.
const START: Duration = Duration::from_secs(60);
/// Bytes of the broker's log that a failing test shows.
const SHOWN: usize = 16 << 10;

/// A test's turn: tests of one process take turns.
#[derive(Debug)]
pub(crate) struct Turn {
    _taken: MutexGuard<'static, ()>,
}

impl Turn {
    /// Waits for it.
    pub(crate) async fn take() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        Self { _taken: TURN.lock().await }
    }
}

/// A running broker, or one that was stopped and can be started again.
#[derive(Debug)]
pub struct Broker {
    /// Held for the directory's life; nothing where the test brought its own.
    temp: Option<TempDir>,
    /// Tests of one process take turns: a pace that is measured beside another test says nothing.
    turn: Option<Turn>,
    data: PathBuf,
    log: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    advertised: Option<SocketAddr>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    /// Where in the log the words of this life begin.
    life: u64,
}

impl Broker {
    /// Starts one in a new directory.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one in a new directory, with configuration by environment: `("STORAGE_IO_THREADS", "1")`.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start_with(config: &[(&str, &str)]) -> Self {
        let turn = Turn::take().await;
        let mut broker = Self::fresh(config).await;
        broker.turn = Some(turn);
        broker
    }

    /// Starts a second one for the same test, which has its turn already.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start_another(&self) -> Self {
        Self::fresh(&[]).await
    }

    async fn fresh(config: &[(&str, &str)]) -> Self {
        let temp = tempfile::Builder::new().prefix("millstream-").tempdir();
        let temp = temp.expect("a temporary directory");
        let (data, log) = (temp.path().join("data"), temp.path().join("stderr.log"));
        let mut broker = Self::stopped(data, log, config);
        broker.temp = Some(temp);
        broker.restart().await;
        broker
    }

    /// One that is not running yet, on a directory of the test's own.
    #[must_use]
    pub fn stopped(data: PathBuf, log: PathBuf, config: &[(&str, &str)]) -> Self {
        let set = |(key, value): &(&str, &str)| (format!("MILLSTREAM_{key}"), (*value).to_owned());
        let (listen, admin) = (free_port(), free_port());
        let mut environment: Vec<_> = config.iter().map(set).collect();
        if let Ok(level) = std::env::var("MILLSTREAM_TEST_LOG") {
            environment.push(("MILLSTREAM_LOG_LEVEL".to_owned(), level));
        }
        let (temp, turn, advertised, child) = (None, None, None, None);
        Self { temp, turn, data, log, listen, admin, advertised, environment, child, life: 0 }
    }

    /// Starts it, on the same directory and ports, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn restart(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// If it ends instead, or takes long.
    pub async fn ready(&mut self) {
        let admin = self.admin;
        until("readiness", START, async || {
            if let Some(status) = self.ended() {
                panic!("the broker ended with {status} instead of becoming ready: {}", self.tail());
            }
            get(admin, "/readyz").map(drop)
        })
        .await;
    }

    /// Starts it and does not wait.
    ///
    /// # Panics
    /// If it runs already, or cannot be started.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.expect("the log can be written");
        self.life = log.metadata().expect("a file has a length").len();
        let mut command = binary::command();
        command.arg("serve").arg("--data-dir").arg(&self.data);
        command.args(["--listen", &self.listen.to_string(), "--admin", &self.admin.to_string()]);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the broker can be started"));
    }

    /// Kills it: SIGKILL, nothing is flushed, nothing is told.
    ///
    /// # Panics
    /// If it is not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be awaited");
    }

    /// Asks it to stop: SIGTERM.
    ///
    /// # Panics
    /// If it is not running.
    pub fn ask_to_stop(&self) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), Signal::TERM).expect("a child can be signalled");
    }

    /// Freezes it, or lets it go on: SIGSTOP, SIGCONT.
    ///
    /// # Panics
    /// If it is not running.
    pub fn freeze(&self, frozen: bool) {
        let child = self.child.as_ref().expect("it runs");
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it has not after `within`.
    pub async fn end(&mut self, within: Duration) -> ExitStatus {
        let status = until("the end of the broker", within, async || self.ended().ok_or(())).await;
        self.child = None;
        status
    }

    /// Stops it gracefully.
    ///
    /// # Panics
    /// If it does not end with exit code 0 within seconds.
    pub async fn stop(&mut self) {
        self.ask_to_stop();
        let status = self.end(Duration::from_secs(8)).await;
        assert!(status.success(), "{status}: {}", self.tail());
    }

    /// A client of its own, which does not pause for long between attempts.
    ///
    /// # Panics
    /// If the broker cannot be reached.
    pub async fn client(&self) -> Client {
        Client::connect(self.client_config()).await.expect("a broker that is ready can be reached")
    }

    /// How clients reach it.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let backoff =
            BackoffConfig { first: Duration::from_millis(5), most: Duration::from_millis(50) };
        let config = ClientConfig::new([self.listen.to_string()]).ca_file(self.data.join("ca.pem"));
        ClientConfig { backoff, ..config }
    }

    /// Runs a verb of the command line against it.
    pub fn cli(&self, args: &[&str]) -> std::process::Output {
        let (listen, ca) = (self.listen.to_string(), self.data.join("ca.pem"));
        let ca = ca.to_string_lossy();
        binary::run(&[args, &["--broker", &listen, "--ca", &ca]].concat())
    }

    /// Where its data lies.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Where it listens for clients.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Where clients and other brokers are told to find it.
    #[must_use]
    pub fn advertised(&self) -> SocketAddr {
        self.advertised.unwrap_or(self.listen)
    }

    /// Has it say that it is found elsewhere, from its next start on.
    pub fn advertise(&mut self, at: SocketAddr) {
        self.advertised = Some(at);
        self.environment.push(("MILLSTREAM_SERVER_ADVERTISE".to_owned(), at.to_string()));
    }

    /// Everything it has said since it was last started.
    #[must_use]
    pub fn said(&self) -> String {
        let all = std::fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.life).unwrap_or_default().min(all.len());
        String::from_utf8_lossy(&all[from..]).into_owned()
    }

    /// What its own threads said in a panic. A guest's panic is a log line, and none of these.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        let said = self.said();
        let panics = said.lines().filter(|line| line.starts_with("thread '"));
        panics.map(str::to_owned).collect()
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Bytes of memory it holds.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most bytes of memory that it has held since it was started.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn peak_resident_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let pid = self.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("the system says how much") << 10
    }

    /// A page of the admin port.
    ///
    /// # Errors
    /// What it answered instead of 200.
    pub fn admin_page(&self, path: &str) -> Result<String, String> {
        get(self.admin, path)
    }

    /// The sum over its metrics of this name, whatever their labels.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = get(self.admin, "/metrics").ok()?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.reduce(|a, b| a + b)
    }

    /// How it has ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a child can be asked")
    }

    fn tail(&self) -> String {
        let mut all = Vec::new();
        drop(File::open(&self.log).and_then(|mut log| log.read_to_end(&mut all)));
        String::from_utf8_lossy(&all[all.len().saturating_sub(SHOWN)..]).into_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill().and_then(|()| child.wait()));
        }
        if std::thread::panicking() {
            eprintln!("--- the broker said last:\n{}---", self.tail());
        }
    }
}

/// The body of an answer 200 to a GET.
///
/// # Errors
/// What was answered instead.
pub fn get(from: SocketAddr, path: &str) -> Result<String, String> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&from, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(answer.lines().next().unwrap_or_default().to_owned()),
    }
}

/// A port that is free for UDP and TCP, below those that the system gives to clients: it is still
/// free when a broker that was killed comes back.
fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 22_000).expect("below 22,000");
    for _ in 0..22_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + own.wrapping_add(step.wrapping_mul(7)) % 22_000;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if UdpSocket::bind(addr).is_ok() && TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
    panic!("no port is free");
}
