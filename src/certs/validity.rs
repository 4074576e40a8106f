//! From when until when a certificate holds.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::CertificateParams;

/// Lets a certificate hold from the beginning of today, in UTC, for some days.
pub fn hold(params: &mut CertificateParams, now: Timestamp, count: i64) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(today);
    params.not_after = day(today.saturating_add(count.days()));
}
