//! `virtual-i2c SOCKET CONTROL LOG`: the I²C adapter of a virtual board.
//!
//! Serves one QEMU after another on SOCKET (vhost-user-i2c), takes commands on
//! CONTROL and writes every transfer into LOG;
//! ends when it is killed.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use wattline_virtual_board::wire::Wire;
use wattline_virtual_board::{control, ring};

fn main() -> ExitCode {
    abort_on_panic();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [socket, control, log] = &args[..] else {
        eprintln!("error: three paths are needed\ntry: virtual-i2c SOCKET CONTROL LOG");
        return ExitCode::from(2);
    };
    let served = Wire::new(Path::new(log)).and_then(|wire| {
        let wire = Arc::new(Mutex::new(wire));
        control::serve(Path::new(control), Arc::clone(&wire))?;
        ring::serve(Path::new(socket), &wire)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A bus whose thread has fallen looks alive and answers nobody: end it.
fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        std::process::abort();
    }));
}
