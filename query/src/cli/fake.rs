//! For the tests of the commands: a server of one's own on loopback, and a screen that remembers.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::screen::{Format, Screen};
use super::server::Server;

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
