//! A proxy on loopback that breaks connections: each one is reset after a number of bytes that chance decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::failed::{Outcome, While};

/// See the file's head.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    /// Connections reset so far.
    pub(super) resets: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Connections live for at most `bytes_max` bytes, both ways together.
    pub(super) async fn start(to: SocketAddr, bytes_max: u64, seed: u64) -> Outcome<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.when("listening as a proxy")?;
        let address = listener.local_addr().when("asking for the proxy's port")?;
        let resets = Arc::new(AtomicU64::new(0));
        let (counted, mut chance) = (resets.clone(), fastrand::Rng::with_seed(seed));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, to, chance.u64(1..=bytes_max), counted.clone()));
            }
        });
        Ok(Proxy { address, resets, task })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries bytes both ways until there were so many, then resets both ends.
async fn carry(mut client: TcpStream, to: SocketAddr, bytes_max: u64, resets: Arc<AtomicU64>) {
    let Ok(mut broker) = TcpStream::connect(to).await else { return };
    let (mut left, mut up, mut down) = (bytes_max, vec![0; 1024], vec![0; 1024]);
    while left > 0 {
        let (read, target, bytes) = tokio::select! {
            read = client.read(&mut up) => (read, &mut broker, &up),
            read = broker.read(&mut down) => (read, &mut client, &down),
        };
        let Ok(read @ 1..) = read else { return };
        // In the middle of a frame, more often than not.
        let passed = left.min(read as u64);
        if target.write_all(&bytes[..passed as usize]).await.is_err() {
            return;
        }
        left -= passed;
    }
    for end in [client, broker] {
        // Closed without waiting for anything: the other side is told that the connection was reset.
        let _ = end.set_zero_linger();
    }
    resets.fetch_add(1, Ordering::Relaxed);
}
