//! A network of the test's own: namespaces on one bridge, which is in a namespace too.

use std::process::Command;

use crate::process::output;

/// The bridge's own address, and everyone's way out.
pub const HUB: &str = "10.77.0.1";
/// The same, over IPv6.
const HUB_V6: &str = "fd77::1";

/// A bridge with namespaces on it. All of it goes when it is dropped.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    names: Vec<String>,
}

impl Network {
    /// A bridge in a namespace of its own, at [`HUB`].
    #[must_use]
    pub fn new() -> Self {
        let prefix = format!("or{}", std::process::id());
        let mut network = Self { prefix, names: Vec::new() };
        network.namespace("hub");
        network.ip("hub", "link add br0 type bridge");
        network.ip("hub", &format!("addr add {HUB}/24 dev br0"));
        network.ip("hub", &format!("addr add {HUB_V6}/64 dev br0 nodad"));
        network.ip("hub", "link set br0 up");
        network
    }

    /// Adds a namespace at `10.77.0.LAST` and `fd77::LAST`.
    pub fn join(&mut self, name: &str, last: u8) {
        self.namespace(name);
        let peer = self.full(name);
        self.ip("hub", &format!("link add v-{name} type veth peer name eth0 netns {peer}"));
        self.ip("hub", &format!("link set v-{name} master br0 up"));
        self.ip(name, &format!("addr add 10.77.0.{last}/24 dev eth0"));
        self.ip(name, &format!("addr add fd77::{last}/64 dev eth0 nodad"));
        self.ip(name, "link set eth0 up");
        self.ip(name, &format!("route add default via {HUB}"));
        self.ip(name, &format!("-6 route add default via {HUB_V6}"));
    }

    fn namespace(&mut self, name: &str) {
        let full = self.full(name);
        output(Command::new("ip").args(["netns", "add", &full])).unwrap();
        self.names.push(full);
        self.ip(name, "link set lo up");
    }

    fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn ip(&self, name: &str, args: &str) {
        output(self.run(name, "ip").args(args.split(' '))).unwrap();
    }

    /// A program in a namespace.
    #[must_use]
    pub fn run(&self, name: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.full(name)]).arg(program);
        command
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = output(Command::new("ip").args(["netns", "del", name]));
        }
    }
}
