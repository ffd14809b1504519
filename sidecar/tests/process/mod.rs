//! The real binary as a process, ended with its test.

#![allow(clippy::unwrap_used, dead_code)] // Each test is a program of its own, and none uses all of it.

use std::net::TcpListener as StdListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct Sidecar(pub Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn start(bootstrap: &str, name: &str, ports: &[u16]) -> Sidecar {
    let path = std::env::temp_dir().join(format!("outrigger-sidecar-{}-{name}.yaml", std::process::id()));
    std::fs::write(&path, bootstrap).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_sidecar"))
        .args(["-c", path.to_str().unwrap(), "--concurrency", "2", "--log-level", "error"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let sidecar = Sidecar(child);
    let limit = Instant::now() + Duration::from_secs(20);
    while !ports.iter().all(|p| std::net::TcpStream::connect(("127.0.0.1", *p)).is_ok()) {
        assert!(Instant::now() < limit, "the sidecar does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    sidecar
}
