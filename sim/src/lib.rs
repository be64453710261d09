//! The test world: the real binaries as processes ([`process`]), a writer of container logs
//! ([`podlog`]), and what must hold of them ([`oracle`]). Shipped to nobody.

pub mod oracle;
pub mod podlog;
pub mod process;
pub mod rng;
