//! Reads: one key, or all under a prefix in pages of one revision.

use super::client::{CallError, Client, Repeat};
use super::keys::{key_value, range_of, within};
use super::messages::{
    Base64, RangeAnswer, RangeRequest, RequestedOperation, TransactionAnswer, TransactionRequest, Whole,
};
use crate::{KeyValue, Range, StoreError};

/// Rows that one page has at most. A page that is larger than an answer may be is asked for again with a quarter of them.
const PAGE_ROWS: i64 = 512;
/// Keys and values of one range together.
const MAX_RANGE_BYTES: usize = 512 << 20;
/// How often a range is begun, when what it reads is compacted under it.
const MAX_BEGINNINGS: u32 = 3;

pub(super) async fn get(client: &Client, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
    let key = within(client.namespace(), key);
    let request = RangeRequest { key, ..RangeRequest::default() };
    let answer = client.call::<RangeAnswer>("/v3/kv/range", &request, Repeat::Safe).await;
    let row = answer.map_err(read_error)?.kvs.pop();
    row.map(|row| key_value(client.namespace(), row)).transpose()
}

/// The rows of some keys, all of one revision: a transaction without comparisons that changes nothing.
pub(super) async fn get_all(client: &Client, keys: &[Vec<u8>]) -> Result<Vec<Option<KeyValue>>, StoreError> {
    let ranges = keys.iter().map(|key| {
        let key = within(client.namespace(), key);
        RequestedOperation::Range(RangeRequest { key, ..RangeRequest::default() })
    });
    let request = TransactionRequest { compare: Vec::new(), success: ranges.collect(), failure: Vec::new() };
    let answer = client.call::<TransactionAnswer>("/v3/kv/txn", &request, Repeat::Safe).await;
    let responses = answer.map_err(read_error)?.responses;
    if responses.len() != keys.len() {
        return Err(StoreError::Failed("etcd gave another number of answers than was asked for".to_owned()));
    }
    let rows = responses.into_iter().map(|mut response| response.response_range.kvs.pop());
    rows.map(|row| row.map(|row| key_value(client.namespace(), row)).transpose()).collect()
}

/// The first keys under a prefix that come behind `after`, at most so many, all of one revision.
pub(super) async fn page(
    client: &Client,
    prefix: &[u8],
    after: &[u8],
    most: usize,
) -> Result<Range, StoreError> {
    for _beginning in 1..MAX_BEGINNINGS {
        match page_once(client, prefix, after, most).await {
            Err(CallError::Compacted) => {}
            read => return read.map_err(read_error),
        }
    }
    page_once(client, prefix, after, most).await.map_err(read_error)
}

async fn page_once(client: &Client, prefix: &[u8], after: &[u8], most: usize) -> Result<Range, CallError> {
    let (mut key, end) = range_of(client.namespace(), prefix);
    if after >= prefix {
        // The next key behind it.
        let next = [after, &[0]].concat();
        key = within(client.namespace(), &next);
    }
    let limit = Whole(i64::try_from(most).unwrap_or(PAGE_ROWS).clamp(1, PAGE_ROWS));
    let mut request = RangeRequest { key, range_end: Some(end), limit, ..RangeRequest::default() };
    let (mut rows, mut bytes) = (Vec::new(), 0);
    loop {
        let page = match client.call::<RangeAnswer>("/v3/kv/range", &request, Repeat::Safe).await {
            Err(CallError::TooLong) if request.limit.0 > 1 => {
                request.limit.0 = (request.limit.0 / 4).max(1);
                continue;
            }
            page => page?,
        };
        if request.revision.0 == 0 {
            request.revision = page.header.revision;
        }
        let last = page.kvs.last().map(|row| row.key.0.clone());
        for row in page.kvs {
            let row = key_value(client.namespace(), row).map_err(CallError::Store)?;
            bytes += row.key.len() + row.value.len();
            rows.push(row);
        }
        if bytes > MAX_RANGE_BYTES {
            return Err(CallError::Store(StoreError::TooLarge("512 MiB under one prefix")));
        }
        match last {
            Some(mut last) if page.more && rows.len() < most => {
                last.push(0);
                request.key = Base64(last);
            }
            _ => {
                rows.truncate(most);
                return Ok(Range { revision: request.revision.revision(), rows });
            }
        }
    }
}

/// Whether something under the prefix was written after a revision, and the revision of the whole store.
pub(super) fn written_after(client: &Client, prefix: &[u8], revision: u64) -> RangeRequest {
    let (key, end) = range_of(client.namespace(), prefix);
    let min_mod_revision = Whole::of_revision(revision + 1);
    RangeRequest {
        key,
        range_end: Some(end),
        limit: Whole(1),
        keys_only: true,
        min_mod_revision,
        ..RangeRequest::default()
    }
}

/// A read names no lease, and no revision that it was not just given.
pub(super) fn read_error(error: CallError) -> StoreError {
    match error {
        CallError::Store(error) => error,
        CallError::TooLong => StoreError::TooLarge("what etcd may answer"),
        CallError::LeaseEnded => {
            StoreError::Failed("etcd speaks of a lease that was not asked for".to_owned())
        }
        CallError::Compacted => {
            StoreError::Failed("etcd compacts its history faster than it can be read".to_owned())
        }
    }
}
