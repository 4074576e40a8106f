//! Parts of a blob.

use std::collections::VecDeque;

use crate::registry::oci::range::Part;
use crate::registry::storage::object::Object;
use crate::serve::Body;

/// Type of every blob: nobody but the client knows what it is.
pub const BLOB_TYPE: &str = "application/octet-stream";

/// Makes a body of a part of an object.
pub fn part_of(content: &Object, part: Part) -> Body {
    Body::stream(content.read(part.first..part.last + 1), part.length())
}

/// Makes a `multipart/byteranges` body (RFC 9110, section 14.6).
pub fn multipart(content: &Object, parts: &[Part], boundary: &str) -> Body {
    let mut bodies = VecDeque::new();
    for (number, part) in parts.iter().enumerate() {
        let line = if number == 0 { "" } else { "\r\n" };
        bodies.push_back(Body::from(format!(
            "{line}--{boundary}\r\nContent-Type: {BLOB_TYPE}\r\nContent-Range: bytes {}-{}/{}\r\n\r\n",
            part.first, part.last, content.size
        )));
        bodies.push_back(part_of(content, *part));
    }
    bodies.push_back(Body::from(format!("\r\n--{boundary}--\r\n")));
    Body::Chain(bodies)
}
