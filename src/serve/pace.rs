//! How long a client may take to send what it announced.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};

use crate::sys::clock::monotonic;
use crate::sys::task;

/// How long a client may send nothing in the middle of a body.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of a body for which it has a second more in all.
const SLOWEST: u64 = 4 << 10;

/// Ends a body whose client is silent for too long, or slower than anybody who
/// means it: what is waited for counts, not what is done meanwhile.
pub fn in_time<S>(body: S) -> impl Stream<Item = Result<Bytes, String>>
where
    S: Stream<Item = Result<Bytes, String>> + Unpin,
{
    let begin = (body, Duration::ZERO, 0_u64);
    stream::unfold(Some(begin), async |state| {
        let (mut body, waited, received) = state?;
        let left = (PATIENCE + Duration::from_secs(received / SLOWEST)).saturating_sub(waited);
        let began = monotonic();
        match task::timeout(PATIENCE.min(left), body.next()).await {
            Err(_) if left < PATIENCE => {
                let seconds = (waited + left).as_secs();
                Some((Err(format!("only {received} bytes came in {seconds} seconds")), None))
            }
            Err(_) => Some((Err("nothing came for a minute".to_owned()), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(Some(Ok(data))) => {
                let waited = waited + monotonic().duration_since(began);
                let state = (body, waited, received + data.len() as u64);
                Some((Ok(data), Some(state)))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::simulation;

    /// Takes a body of pieces of so many bytes, each after a pause; says how it ended.
    fn take(count: u64, size: usize, pause: Duration) -> (usize, Option<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let _simulated = simulation::enter(1);
            let body = stream::unfold(0, move |number| async move {
                if number == count {
                    return None;
                }
                task::sleep(pause).await;
                Some((Ok(Bytes::from(vec![0; size])), number + 1))
            });
            let mut taken = Box::pin(in_time(Box::pin(body)));
            let mut bytes = 0;
            while let Some(piece) = taken.next().await {
                match piece {
                    Ok(piece) => bytes += piece.len(),
                    Err(reason) => return (bytes, Some(reason)),
                }
            }
            (bytes, None)
        })
    }

    #[test]
    fn a_body_takes_as_long_as_its_size_allows() {
        let second = Duration::from_secs(1);
        assert_eq!(take(3, 7, second), (21, None));
        let silent = take(1, 1, 61 * second);
        assert_eq!(silent, (0, Some("nothing came for a minute".to_owned())));
        // Never silent for long, and never done: a byte in ten seconds.
        let slow = take(1000, 1, 10 * second);
        assert_eq!(slow, (6, Some("only 6 bytes came in 60 seconds".to_owned())));
        // As fast as it must be, for hours.
        assert_eq!(take(10_000, 4096, second), (40_960_000, None));
    }
}
