//! The test world: the real binaries as processes ([`process`]), a writer of container logs
//! ([`podlog`], [`corpus`]), and what must hold of them ([`oracle`]). Shipped to nobody.

pub mod corpus;
pub mod oracle;
pub mod podlog;
pub mod process;
pub mod rng;
