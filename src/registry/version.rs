/// Version that the server reports, without a leading `v`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
