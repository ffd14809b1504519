//! The whole mesh by the one command: real pilot, real sidecars, real services.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use tests::process::program;

fn verify(more: &[&str]) {
    let outrigger = program("outrigger");
    let _ = ["pilot", "sidecar"].map(program);
    let out = Command::new(outrigger).args(["demo", "--verify"]).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let (good, bad) = (said.matches("ok      ").count(), said.matches("not ok  ").count());
    let all = format!("{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && good >= 10 && bad == 0, "{all}");
}

/// One after the other: they use the same addresses.
#[test]
fn the_demo_proves_what_it_claims() {
    verify(&[]);
    match std::env::var("ENVOY_BIN") {
        Ok(envoy) => verify(&["--proxy", &envoy]),
        Err(_) => eprintln!("ENVOY_BIN is not set: the demo was not run with Envoy"),
    }
}
