//! One `up` takes the place of another.

use std::process::Child;

use crate::mesh::{Finished, Mesh, Running};
use crate::{eventually, kill};

/// An `up` whose place another one takes.
pub struct Former {
    child: Child,
    /// What its output files are called.
    number: u32,
}

impl Mesh {
    /// Starts an `up` with `--takeover` whose output has the place of that of the one before.
    ///
    /// # Panics
    /// When it cannot be started.
    fn start_takeover(&mut self) -> (Child, u32) {
        self.takeovers += 1;
        for name in ["out", "err"] {
            let (from, to) = (format!("up.{name}"), format!("up.{}.{name}", self.takeovers));
            std::fs::rename(self.folder().join(from), self.folder().join(to))
                .expect("the output of the one before");
        }
        self.arguments.push("--takeover".to_owned());
        let child = self.start();
        self.arguments.pop();
        (child, self.takeovers)
    }
}

impl Running {
    /// Starts another `up` that is to take the place of this one, and waits for nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn begin_takeover(&mut self) -> Former {
        let (child, number) = self.mesh.start_takeover();
        Former { child: std::mem::replace(&mut self.child, child), number }
    }

    /// The same where the gateway of the other one is to listen elsewhere.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn begin_takeover_at(&mut self, gateway: &str) -> Former {
        let elsewhere = format!("--gateway={gateway}");
        let of_gateway = self.mesh.arguments.iter().position(|argument| argument.starts_with("--gateway="));
        let of_gateway = of_gateway.expect("an argument");
        let before = std::mem::replace(&mut self.mesh.arguments[of_gateway], elsewhere);
        let former = self.begin_takeover();
        self.mesh.arguments[of_gateway] = before;
        former
    }

    /// The same, and waits until it serves.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn take_over(&mut self) -> Former {
        let former = self.begin_takeover();
        self.until_taken_over(&former);
        former
    }

    /// Waits until the place of the other one is taken.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn until_taken_over(&mut self, former: &Former) {
        eventually("the takeover", || {
            if self.child.try_wait().expect("asking for the process").is_some() {
                panic!("it ended: {:?}; the one before: {}", self.wait(), former.log(self));
            }
            self.log().contains("the place of another serviceos is taken").then_some(())
        });
    }

    /// The takeover has failed: the one before is the one that runs. Gives how the other ended.
    ///
    /// # Panics
    /// When the other does not end.
    pub fn failed_takeover(&mut self, former: Former) -> Finished {
        let finished = self.wait();
        for name in ["out", "err"] {
            let (from, to) = (format!("up.{}.{name}", former.number), format!("up.{name}"));
            std::fs::rename(self.folder().join(from), self.folder().join(to)).expect("its output");
        }
        self.child = former.child;
        finished
    }
}

impl Former {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self, mesh: &Running) -> String {
        self.read(mesh, "err")
    }

    /// What it has shown so far.
    pub fn out(&self, mesh: &Running) -> String {
        self.read(mesh, "out")
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("asking for the process").is_some()
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(mut self, mesh: &Running) -> Finished {
        let status = eventually("the serviceos before to end", || {
            self.child.try_wait().expect("asking for the process")
        });
        let code = status.code().unwrap_or(-1);
        Finished { code, out: self.read(mesh, "out"), err: self.read(mesh, "err") }
    }

    fn read(&self, mesh: &Running, name: &str) -> String {
        std::fs::read_to_string(mesh.folder().join(format!("up.{}.{name}", self.number))).unwrap_or_default()
    }
}
