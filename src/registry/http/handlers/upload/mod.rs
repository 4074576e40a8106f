//! `/v2/<name>/blobs/uploads/…`: blobs on their way in.

mod answers;
mod cancel;
mod chunk;
mod finish;
mod mount;
mod position;
mod receive;
mod start;
mod status;

pub use cancel::cancel;
pub use chunk::chunk;
pub use finish::finish;
pub use start::start;
pub use status::status;
