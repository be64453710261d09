//! For the tests of the commands: a server of one's own on loopback, a screen that remembers, and a
//! turn for those that start programs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::screen::{Format, Screen};
use super::server::Server;

/// Held by each test that writes a program and runs it. A process that another test starts meanwhile
/// would inherit the open file for a moment, and the system runs no file that is open for writing.
pub(super) static PROGRAMS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Serves a router until the test ends.
pub(super) async fn serve(router: axum::Router) -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server::new(&addr).unwrap()
}

/// What was written to a screen.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(super) fn screen(&self, format: Format, paints: bool) -> Screen {
        Screen::of(Box::new(self.clone()), format, paints)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
