//! The test world: the real binaries as processes ([`process`]), writers of logs ([`podlog`],
//! [`logtree`], [`corpus`]), a collector and an API server that fail as they are told ([`sink`],
//! [`kubeapi`]), and what must hold of all of it ([`oracle`]). Shipped to nobody.

pub mod corpus;
pub mod http1;
pub mod kubeapi;
pub mod logtree;
pub mod oracle;
pub mod podlog;
pub mod process;
pub mod rng;
pub mod sink;
