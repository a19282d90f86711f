//! Which blocks of a file may hold a trace or the value of an attribute.
//!
//! Sorting serves one question. For the others each file carries a filter per block of 4,096 rows: a
//! split-block Bloom filter (as in the Parquet format, "Bloom Filter") of the [`Needle`]s of its rows. It is between
//! the last row group and the footer, where readers that do not know of it pass over it; the footer says where.
//! [`Needle`] tells what of a row is in it. A filter may say yes in vain, never no.
//!
//! ```text
//! blocks (4) | bytes of each block's filter (4 each) | filter …          filter = word groups of 32 bytes
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray};
use arrow::datatypes::{DataType, Int64Type};
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::{ByteArrayColumnIndex, ColumnIndexMetaData};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{DataFile, Table};

/// Rows of a block. A row group is a whole number of them.
pub(crate) const BLOCK_ROWS: usize = 4096;
/// Bits of a filter for each needle in it: one answer in several hundred is a yes in vain. Twenty traces that are looked
/// for together are twenty needles, so that with one in a hundred every fifth block would be read.
const NEEDLE_BITS: usize = 16;
/// Bytes of the group of words that one needle is looked for in.
const GROUP_BYTES: usize = 32;
/// The column of trace ids.
const TRACE_ID: &str = "trace_id";
/// What the entry of the footer is called: its value is the place of the first byte and the length.
const FOOTER_KEY: &str = "weir.blocks.2";
/// The classes of durations of 2^20 ns (1 ms) and of 2^40 ns (18 min): what is shorter or longer has no class of its own.
const CLASSES: RangeInclusive<u8> = 80..=160;

/// A value by which blocks are found, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needle {
    hash: u64,
    /// The first bytes of a trace id, by which spans are sorted.
    id: Option<u64>,
}

impl Needle {
    /// A value of a column of ids or texts.
    pub fn value(column: &str, value: &[u8]) -> Self {
        let id = value.first_chunk().filter(|_| column == TRACE_ID).map(|bytes| u64::from_be_bytes(*bytes));
        Self { hash: xxh3_64_with_seed(value, xxh3_64(column.as_bytes())), id }
    }

    /// A value under a key of a map of texts.
    pub fn text(column: &str, key: &str, value: &str) -> Self {
        Self::of(xxh3_64_with_seed(value.as_bytes(), Self::key(column, key).hash))
    }

    /// A value under a key of a map of whole numbers.
    pub fn long(column: &str, key: &str, value: i64) -> Self {
        Self::of(xxh3_64_with_seed(&value.to_le_bytes(), Self::key(column, key).hash))
    }

    /// What each span of `service` has that took `duration_ns` or longer; nothing where that is so short that it is not
    /// looked for.
    pub fn slow(service: &str, duration_ns: i64) -> Option<Self> {
        let class = duration_class(duration_ns);
        CLASSES.contains(&class).then(|| Self::of(slow_class(service_hash(service), class)))
    }

    /// Any value under a key of a map of another type.
    pub fn key(column: &str, key: &str) -> Self {
        Self::of(xxh3_64_with_seed(key.as_bytes(), xxh3_64(column.as_bytes())))
    }

    fn of(hash: u64) -> Self {
        Self { hash, id: None }
    }
}

/// The hash of the spans of a service in a class of durations or a higher one.
fn slow_class(service: u64, class: u8) -> u64 {
    xxh3_64_with_seed(&[class], service)
}

fn service_hash(service: &str) -> u64 {
    xxh3_64_with_seed(service.as_bytes(), xxh3_64(b"duration_ns"))
}

/// Durations by classes, four to each doubling; the last one of [`CLASSES`] is open.
fn duration_class(duration_ns: i64) -> u8 {
    match duration_ns.max(1).ilog2() {
        power @ 2..40 => (4 * power) as u8 + ((duration_ns >> (power - 2)) & 3) as u8,
        power @ ..2 => (4 * power) as u8,
        _ => *CLASSES.end(),
    }
}

/// The filters of a file that is being written.
#[derive(Debug)]
pub(crate) struct Builder {
    columns: &'static [&'static str],
    has_durations: bool,
    /// The hashes of the needles of the blocks that have not ended.
    needles: Vec<HashSet<u64, Unhashed>>,
    /// The services of the rows in those blocks, where they have durations: the rows before each piece, and the piece.
    services: Vec<(usize, ArrayRef)>,
    /// The highest class of duration in each of those blocks, by hash of the service.
    slowest: Vec<HashMap<u64, u8, Unhashed>>,
    filters: Vec<Vec<u8>>,
}

/// For sets of hashes.
type Unhashed = std::hash::BuildHasherDefault<Identity>;

#[derive(Debug, Default)]
struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl Builder {
    /// For a file of `table`; none where its files have no filters.
    pub(crate) fn of(table: Table) -> Option<Self> {
        let columns = table.needle_columns();
        let has_durations = table == Table::Spans;
        let empty = Self {
            columns,
            has_durations,
            needles: Vec::new(),
            services: Vec::new(),
            slowest: Vec::new(),
            filters: Vec::new(),
        };
        (!columns.is_empty()).then_some(empty)
    }

    /// Adds the values of the column `name` in the rows behind the first `before` ones since the last block ended.
    /// Columns come in the order of the schema, all in the same pieces.
    pub(crate) fn add(&mut self, name: &str, column: &ArrayRef, before: usize) {
        let services = match name {
            "service" if self.has_durations => {
                self.services.push((before, Arc::clone(column)));
                return;
            }
            "duration_ns" => self.services.iter().find(|(rows, _)| *rows == before),
            _ if self.columns.contains(&name) => None,
            _ => return,
        };
        let mut from = 0;
        while from < column.len() {
            let block = (before + from) / BLOCK_ROWS;
            let to = column.len().min((block + 1) * BLOCK_ROWS - before);
            if self.needles.len() <= block {
                self.needles.resize_with(block + 1, HashSet::default);
                self.slowest.resize_with(block + 1, HashMap::default);
            }
            match services {
                Some((_, services)) => add_durations(&mut self.slowest[block], services, column, from..to),
                None => add(&mut self.needles[block], name, column, from..to),
            }
            from = to;
        }
    }

    /// Ends the blocks of the last `rows` rows; only at the end of a file is one of them not full.
    pub(crate) fn end_blocks(&mut self, rows: usize) {
        self.services.clear();
        self.needles.resize_with(rows.div_ceil(BLOCK_ROWS), HashSet::default);
        self.slowest.resize_with(self.needles.len(), HashMap::default);
        for (mut needles, slowest) in self.needles.drain(..).zip(self.slowest.drain(..)) {
            for (service, class) in slowest {
                let classes = *CLASSES.start()..=class; // few services, some dozen classes
                needles.extend(classes.map(|class| slow_class(service, class)));
            }
            let groups = (needles.len() * NEEDLE_BITS).div_ceil(GROUP_BYTES * 8).max(1);
            let mut filter = vec![0; groups * GROUP_BYTES];
            for needle in needles {
                for (byte, bit) in bits(needle, groups) {
                    filter[byte] |= bit;
                }
            }
            self.filters.push(filter);
        }
    }

    /// The filters as they are written, piece by piece: of a large file they are a hundred megabytes.
    pub(crate) fn finish(self) -> impl Iterator<Item = Vec<u8>> {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut places = number(self.filters.len()).to_vec();
        self.filters.iter().for_each(|filter| places.extend(number(filter.len())));
        std::iter::once(places).chain(self.filters)
    }
}

/// Adds the needles of `rows` of a column.
fn add(needles: &mut HashSet<u64, Unhashed>, name: &str, column: &dyn Array, rows: Range<usize>) {
    let name_seed = xxh3_64(name.as_bytes());
    let needle = |value: &[u8]| xxh3_64_with_seed(value, name_seed);
    match column.data_type() {
        DataType::Map(..) => add_entries(needles, name_seed, column.as_map(), rows),
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            let mut last = None;
            for value in rows.filter(|row| values.is_valid(*row)).map(|row| values.value(row)) {
                if last.replace(value) != Some(value) {
                    needles.insert(needle(value));
                }
            }
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            let rows = rows.filter(|row| values.is_valid(*row));
            needles.extend(rows.map(|row| needle(values.value(row).as_bytes())));
        }
        _ => {}
    }
}

/// Notes how long the slowest spans of each service took.
fn add_durations(
    slowest: &mut HashMap<u64, u8, Unhashed>,
    services: &dyn Array,
    durations: &dyn Array,
    rows: Range<usize>,
) {
    let (services, durations) = (services.as_string::<i32>(), durations.as_primitive::<Int64Type>());
    for row in rows {
        let class = slowest.entry(service_hash(services.value(row))).or_default();
        *class = duration_class(durations.value(row)).max(*class);
    }
}

/// Adds the needles of the entries of a map.
fn add_entries(needles: &mut HashSet<u64, Unhashed>, name_seed: u64, map: &MapArray, rows: Range<usize>) {
    if map.null_count() == map.len() {
        return;
    }
    let (keys, values) = (map.keys().as_string::<i32>(), map.values());
    let texts = values.as_string_opt::<i32>();
    let longs = values.as_primitive_opt::<Int64Type>();
    for row in rows.filter(|row| map.is_valid(*row)) {
        for at in map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize {
            let seed = xxh3_64_with_seed(keys.value(at).as_bytes(), name_seed);
            needles.insert(match (texts, longs) {
                (Some(texts), _) if texts.is_valid(at) => xxh3_64_with_seed(texts.value(at).as_bytes(), seed),
                (_, Some(longs)) if longs.is_valid(at) => {
                    xxh3_64_with_seed(&longs.value(at).to_le_bytes(), seed)
                }
                _ => seed,
            });
        }
    }
}

/// The bits that stand for a hash in a filter of so many groups: a byte and the bit in it, eight times.
fn bits(hash: u64, groups: usize) -> impl Iterator<Item = (usize, u8)> {
    /// The salts of the Parquet format.
    const SALT: [u32; 8] = [
        0x47b6_137b,
        0x4497_4d91,
        0x8824_ad5b,
        0xa2b7_289d,
        0x7054_95c7,
        0x2df1_424b,
        0x9efc_4947,
        0x5c6b_fb31,
    ];
    let group = (((hash >> 32) * groups as u64) >> 32) as usize * GROUP_BYTES;
    SALT.into_iter().enumerate().map(move |(word, salt)| {
        let bit = (hash as u32).wrapping_mul(salt) >> 27;
        (group + word * 4 + bit as usize / 8, 1 << (bit % 8))
    })
}

/// The filters of a file.
#[derive(Debug)]
pub struct BlockFilters {
    /// Where the filter of each block ends in `bytes`, and before them where the first begins.
    ends: Vec<usize>,
    bytes: Vec<u8>,
    /// What the pages of each block say, where the file's pages are its blocks.
    pages: Vec<Page>,
}

/// The smallest and the largest of a block's values.
#[derive(Debug, Clone, PartialEq)]
struct Page {
    /// Microseconds.
    times: RangeInclusive<i64>,
    /// The first bytes of trace ids.
    ids: RangeInclusive<u64>,
}

impl BlockFilters {
    /// The blocks that may hold, of each of `wanted`, one at least in a row of `times` (microseconds): ranges of rows, in
    /// order, apart.
    pub fn rows(&self, wanted: &[Vec<Needle>], times: &RangeInclusive<i64>) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for block in 0..self.ends.len() - 1 {
            let page = self.pages.get(block);
            if page.is_some_and(|page| page.times.start() > times.end() || page.times.end() < times.start()) {
                continue;
            }
            let is_near = |id: u64| page.is_none_or(|page| page.ids.contains(&id));
            let may_hold = |needle: &Needle| needle.id.is_none_or(is_near) && self.may_hold(block, needle);
            if wanted.iter().all(|any| any.iter().any(may_hold)) {
                let rows = block * BLOCK_ROWS..(block + 1) * BLOCK_ROWS;
                match found.last_mut() {
                    Some(last) if last.end == rows.start => last.end = rows.end,
                    _ => found.push(rows),
                }
            }
        }
        found
    }

    /// Bytes in memory, about.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends) + size_of_val(&*self.pages)
    }

    fn may_hold(&self, block: usize, needle: &Needle) -> bool {
        let filter = &self.bytes[self.ends[block]..self.ends[block + 1]];
        bits(needle.hash, filter.len() / GROUP_BYTES).all(|(byte, bit)| filter[byte] & bit != 0)
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let number = |at: usize| {
            let four = bytes.get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(four.try_into().ok()?) as usize)
        };
        let blocks = number(0)?;
        let mut ends = vec![blocks.checked_add(1)?.checked_mul(4)?];
        for block in 0..blocks {
            let length = number(4 + block * 4)?;
            if length == 0 || !length.is_multiple_of(GROUP_BYTES) {
                return None;
            }
            ends.push(ends.last()?.checked_add(length)?);
        }
        (*ends.last()? == bytes.len()).then_some(Self { ends, bytes, pages: Vec::new() })
    }

    /// Reads those of a file; none where it has none: it is of another program, or of a table without.
    pub(crate) fn read(table: Table, file: &DataFile) -> io::Result<Option<Self>> {
        let mut open = File::open(&file.path)?;
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let footer = reader.parse_and_finish(&open)?;
        let Some((start, length)) = footer.file_metadata().key_value_metadata().and_then(|all| place(all))
        else {
            return Ok(None);
        };
        if start.checked_add(length).is_none_or(|end| end > file.size) {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        open.seek(SeekFrom::Start(start))?;
        open.read_exact(&mut bytes)?;
        let pages = pages(table, &footer).unwrap_or_default();
        Ok(Self::from_bytes(bytes).map(|filters| Self { pages, ..filters }))
    }
}

/// What the footer says of the pages of each block; nothing where these are not its pages.
fn pages(table: Table, footer: &ParquetMetaData) -> Option<Vec<Page>> {
    let columns = footer.file_metadata().schema_descr().columns();
    let leaf = |name: &str| columns.iter().position(|column| column.path().parts() == [name]);
    let (time, id) = (leaf(table.time_column())?, leaf(TRACE_ID)?);
    let id_is_sorted = table.sort_order().iter().any(|by| by.column() == TRACE_ID);
    let mut pages = Vec::new();
    for (group, rows) in footer.row_groups().iter().enumerate() {
        let blocks = usize::try_from(rows.num_rows()).ok()?.div_ceil(BLOCK_ROWS);
        let are_pages = |leaf: usize| {
            let pages = footer.offset_index()?.get(group)?.get(leaf)?.page_locations();
            let firsts = pages.iter().map(|page| page.first_row_index);
            Some(firsts.eq((0..blocks).map(|block| (block * BLOCK_ROWS) as i64)))
        };
        let index = footer.column_index()?.get(group)?;
        let ColumnIndexMetaData::INT64(times) = index.get(time)? else { return None };
        let ids = match index.get(id)? {
            ColumnIndexMetaData::BYTE_ARRAY(ids) if id_is_sorted && are_pages(id)? => Some(ids),
            _ => None,
        };
        if !are_pages(time)? {
            return None;
        }
        for block in 0..blocks {
            let first = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            let between = |ids: &ByteArrayColumnIndex| {
                Some(first(ids.min_value(block)?)?..=first(ids.max_value(block)?)?)
            };
            pages.push(Page {
                times: *times.min_value(block)?..=*times.max_value(block)?,
                ids: ids.and_then(between).unwrap_or(0..=u64::MAX),
            });
        }
    }
    Some(pages)
}

/// What the footer says of filters of `length` bytes from `start` on.
pub(crate) fn footer_entry(start: usize, length: usize) -> KeyValue {
    KeyValue::new(FOOTER_KEY.to_owned(), format!("{start} {length}"))
}

fn place(footer: &[KeyValue]) -> Option<(u64, u64)> {
    let entry = footer.iter().find(|entry| entry.key == FOOTER_KEY)?;
    let (start, length) = entry.value.as_ref()?.split_once(' ')?;
    Some((start.parse().ok()?, length.parse().ok()?))
}

#[cfg(test)]
mod tests;
