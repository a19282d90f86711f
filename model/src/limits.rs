//! Every bound in the program, with its name and its arithmetic. A queue, map, cache or loop without
//! an entry here is a mistake.

use std::time::Duration;

/// Largest OTLP request, before and after decompression: what the OTLP specification recommends.
pub const OTLP_REQUEST_BYTES: usize = 64 << 20;
/// Telemetry bytes admitted and not yet acknowledged, over all connections: four largest requests.
pub const INGEST_BYTES_IN_FLIGHT: usize = 4 * OTLP_REQUEST_BYTES;
/// Memory one request may become when its resources are repeated in every row; the rest is rejected.
pub const DECODED_BYTES: usize = 4 * OTLP_REQUEST_BYTES;
/// How long a request body may take to arrive.
pub const INGEST_READ: Duration = Duration::from_secs(30);
/// What a refused sender is told to wait, at least.
pub const INGEST_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long requests that are under way may take when the collector stops.
pub const INGEST_DRAIN: Duration = Duration::from_secs(5);
/// Labels of one series.
pub const SERIES_LABELS: usize = 128;
/// Buckets of one explicit-bucket histogram point, or quantiles of a summary point: each is a series.
pub const HISTOGRAM_BUCKETS: usize = 1_000;
/// Exemplars of one data point: one for each bucket of the largest explicit-bucket histogram.
pub const POINT_EXEMPLARS: usize = HISTOGRAM_BUCKETS + 1;
/// Delta series whose running totals are held.
pub const DELTA_SERIES: usize = 200_000;
/// Buckets on one side of an exponential histogram point: all positive doubles at scale 4.
pub const EXPONENTIAL_BUCKETS: usize = 32_768;
/// Attributes, events and links of one record, those of its events and links included. Two bytes of a
/// request can be an event; held to be read this makes 60 of them, 6 MB at most.
pub const RECORD_PARTS: usize = 100_000;
/// Samples of `target_info` that a resource gets in one request: points of a day need 576.
pub const TARGET_INFOS: usize = 1_000;
/// Deepest nesting of an attribute value.
pub const ANY_VALUE_DEPTH: usize = 32;
/// Series that remote write knows by the bytes of their labels, in each version; some 600 bytes each.
pub const REMOTE_WRITE_SERIES: usize = 256 << 10;
/// Bytes of labels by which a series is known, and of what is said of a metric; longer ones are read each time, or left out.
pub const REMOTE_WRITE_SERIES_BYTES: usize = 4 << 10;
/// Metric families of which remote write remembers what was said.
pub const REMOTE_WRITE_FAMILIES: usize = 50_000;
/// How far ahead of the collector's clock a record may be before it is rejected.
pub const FUTURE_SKEW: Duration = Duration::from_secs(3600);

/// Bytes of frames after which a group commit no longer waits for company.
pub const WAL_GROUP_BYTES: usize = 1 << 20;
/// Size at which a WAL segment is closed and the next begun.
pub const WAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Writes waiting for the WAL; further ones are refused as overload.
pub const WAL_QUEUE: usize = 1024;
/// Hot rows are flushed at this age …
pub const FLUSH_AGE: Duration = Duration::from_secs(30);
/// … or at this size, whichever comes first.
pub const FLUSH_BYTES: usize = 128 << 20;
/// Time between two flushes that writers wait for, at least: each makes files that compaction has to merge.
pub const FLUSH_GAP: Duration = Duration::from_millis(250);
/// Hot bytes at which writes are refused: flushing has fallen behind by three rounds.
pub const HOT_BYTES: usize = 4 * FLUSH_BYTES;
/// Largest frame of the WAL: a largest OTLP request, four times its size as Arrow rows.
pub const WAL_FRAME_BYTES: usize = 4 * OTLP_REQUEST_BYTES;
/// Disk space that is kept for flushing on a full disk: what the fullest memory becomes in files, and more.
pub const DISK_RESERVE_BYTES: u64 = 64 << 20;
/// How long flushed rows stay within reach of `rows_since` …
pub const FLUSHED_ROWS_AGE: Duration = Duration::from_secs(30);
/// … and how many bytes of them, per tenant and table; the oldest go first and are counted.
pub const FLUSHED_ROWS_BYTES: usize = 32 << 20;
/// Operations of a tenant's day that tail sampling tells apart; a day with more of them stays as it is.
pub const SAMPLED_OPERATIONS: usize = 50_000;
/// Traces out of the ordinary of a tenant's day that tail sampling marks, at about 16 bytes each; a day with more of
/// them stays as it is.
pub const SAMPLED_TRACES: usize = 4_000_000;
/// Tenants that one data directory holds; writes of further ones are refused.
pub const TENANTS: usize = 1_000;
/// Days for which the label index remembers that a series' row is stored; an older day's is written again.
pub const SERIES_DAYS: usize = 8;
/// Series that the label index holds per tenant; samples of further ones are rejected.
pub const SERIES: usize = 2_000_000;

/// Own spans that wait to be sent; further ones are dropped and counted by OpenTelemetry.
pub const OWN_SPANS: usize = 2_048;
/// Batches of them between OpenTelemetry's thread and the one that sends.
pub const OWN_SPAN_BATCHES: usize = 8;

/// Endpoints the registry holds.
pub const REGISTRY_ENDPOINTS: usize = 10_000;
/// How often an endpoint renews its registration.
pub const REGISTRATION_RENEW: Duration = Duration::from_secs(5);
/// After how long without renewal it is removed: three missed renewals and one more for the road.
pub const REGISTRATION_EXPIRY: Duration = Duration::from_secs(20);
/// How long a restarted collector announces no removals.
pub const REGISTRATION_GRACE: Duration = Duration::from_secs(30);
/// How long a restarted collector waits for a service's endpoints to register again before it announces
/// the first set: a set that is still incomplete would remove the missing ones.
pub const REGISTRATION_SETTLE: Duration = Duration::from_secs(2);
/// Bytes of a name, address or label in a registration.
pub const REGISTRATION_TEXT_BYTES: usize = 256;
/// Labels of a registration.
pub const REGISTRATION_LABELS: usize = 64;
/// Upstreams of a proxy.
pub const REGISTRATION_UPSTREAMS: usize = 1_024;
/// Services registered through Consul's API, for all of which there is room in the registry …
pub const AGENT_SERVICES: usize = 10_000;
/// … their checks and those of no service …
pub const AGENT_CHECKS: usize = 20_000;
/// … and the bytes of the requests that registered them.
pub const AGENT_BYTES: usize = 64 << 20;
/// Bytes of a request to Consul's API: a registration with all tags, metadata and checks that it may have.
pub const AGENT_REQUEST_BYTES: usize = 64 << 10;
/// How long such a request may take to arrive.
pub const AGENT_READ: Duration = Duration::from_secs(10);
/// Tags of a service.
pub const AGENT_TAGS: usize = 64;
/// Pairs of metadata of a service, bytes of a key and bytes of a value, as Consul.
pub const AGENT_META: usize = 64;
/// See [`AGENT_META`].
pub const AGENT_META_KEY_BYTES: usize = 128;
/// See [`AGENT_META`].
pub const AGENT_META_VALUE_BYTES: usize = 512;
/// Checks of a service.
pub const AGENT_SERVICE_CHECKS: usize = 16;
/// Bytes of what a check found, as Consul.
pub const AGENT_OUTPUT_BYTES: usize = 4 << 10;
/// Checks that are run at once; further ones wait their turn.
pub const AGENT_PROBES: usize = 256;
/// Shortest interval of a check, as Consul.
pub const AGENT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a check may take unless it says so, as Consul.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take at most: while it runs, another cannot.
pub const AGENT_TIMEOUT_MOST: Duration = Duration::from_secs(60);
/// How long a service stays critical before it is deregistered for that, at least, as Consul.
pub const AGENT_DEREGISTER: Duration = Duration::from_secs(60);
/// Requests of Consul's API that wait for a change at once; further ones are refused.
pub const AGENT_WATCHES: usize = 4_096;
/// How long such a request waits unless it says so, as Consul …
pub const AGENT_WAIT: Duration = Duration::from_secs(300);
/// … and at most, before a sixteenth of it is added for chance to choose from.
pub const AGENT_WAIT_MOST: Duration = Duration::from_secs(600);
/// How long a new mesh stream may take to register, and a message to find room in its queue.
pub const MESH_PATIENCE: Duration = Duration::from_secs(5);
/// Answers to hints that wait to be stored; further ones are dropped and counted.
pub const MESH_ACK_QUEUE: usize = 1_024;
/// Messages waiting for one proxy's stream; a proxy that is slower is disconnected and joins again.
pub const MESH_STREAM_QUEUE: usize = 256;

/// Spans and log records that a proxy holds for export; further ones are dropped and counted.
pub const PROXY_TELEMETRY_QUEUE: usize = 8_192;
/// Distinct label sets for which a proxy keeps metrics; further ones are folded into one `overflow` set.
pub const PROXY_METRIC_SETS: usize = 10_000;
/// Independent buffers of a proxy's telemetry, among which its threads are divided.
pub const PROXY_TELEMETRY_SHARDS: usize = 16;
/// Other ends of calls that each of them remembers, so that a request finds its counters by an address; all are
/// forgotten when there are more.
pub const PROXY_METRIC_HANDLES: usize = 2 * PROXY_METRIC_SETS;
/// Connections whose bytes are counted while they are open; those of further ones are when they close.
pub const PROXY_FLOWS: usize = 2 * PROXY_CONNECTIONS;
/// Longest peer header that is believed.
pub const PEER_HEADER_BYTES: usize = 512;
/// Peer headers that are remembered as read; all are forgotten when there are more.
pub const PEERS: usize = 4_096;
/// Request body bytes that a proxy keeps so that a retry can send them again.
pub const RETRY_BODY_BYTES: usize = 64 << 10;
/// Header fields a proxy accepts in one message, trailers apart.
pub const HEADERS: usize = 128;
/// Bytes of a line that begins a chunk, extensions included.
pub const CHUNK_LINE_BYTES: usize = 1 << 10;
/// Bytes of trailers after a chunked body.
pub const TRAILER_BYTES: usize = 16 << 10;
/// Bytes of an abandoned request body that are read so that its connection can serve on.
pub const DRAIN_BYTES: usize = 64 << 10;
/// Header bytes a proxy accepts in one request.
pub const HEADER_BYTES: usize = 64 << 10;
/// Bytes of a policy file.
pub const POLICY_BYTES: usize = 64 << 20;
/// Copies of requests to other services under way at once; further ones are not sent and counted.
pub const MIRRORS: u64 = 1_024;
/// Services and outside hosts that a proxy calls.
pub const PROXY_SERVICES: usize = 4_096;
/// Idle upstream connections kept per endpoint.
pub const IDLE_CONNECTIONS: usize = 64;
/// Connections a proxy's listener serves at once; further ones wait in the kernel's backlog.
pub const PROXY_CONNECTIONS: usize = 8_192;
/// Export requests a proxy holds for a collector that is away; the oldest is dropped and counted.
pub const PROXY_OUTBOX: usize = 32;
/// Answers to hints that wait for the mesh stream; further ones are dropped and counted.
pub const PROXY_ACKS: usize = 1_024;
/// Endpoints of one service that a proxy balances over; further ones are ignored.
pub const PROXY_ENDPOINTS: usize = 10_000;
/// Labels of an endpoint: as many as its registration may have.
pub const ENDPOINT_LABELS: usize = REGISTRATION_LABELS;
/// Largest weight of an endpoint, as of an SRV record: those of all endpoints of a service add up within 32 bits.
pub const ENDPOINT_WEIGHT: u32 = 65_535;
/// Largest number of a priority, as of an SRV record.
pub const ENDPOINT_PRIORITY: u32 = 65_535;
/// An answer of the DNS is asked for again no sooner than this, whatever its TTL says …
pub const DNS_TTL_LEAST: Duration = Duration::from_secs(1);
/// … and no later.
pub const DNS_TTL_MOST: Duration = Duration::from_secs(300);
/// How long one question to the DNS may take, with all that the resolver tries.
pub const DNS_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a question that failed is asked again; it doubles with each failure …
pub const DNS_PAUSE_FIRST: Duration = Duration::from_millis(500);
/// … up to this.
pub const DNS_PAUSE_LONGEST: Duration = Duration::from_secs(30);
/// How long endpoints stay in use while the DNS answers nothing at all.
pub const DNS_STALE: Duration = Duration::from_secs(3600);
/// How long endpoints stay in use while the DNS says that there are none; how late one that appears is seen, too.
pub const DNS_ABSENT: Duration = Duration::from_secs(30);
/// How long an answer that there are none holds where it does not say so itself.
pub const DNS_ABSENT_TTL: Duration = Duration::from_secs(5);
/// Names of one SRV answer whose addresses are asked for at once.
pub const DNS_TARGETS_AT_ONCE: usize = 16;
/// Mistakes of a file of endpoints that are told each time it changes.
pub const ENDPOINT_MISTAKES: usize = 100;
// Balancing.
/// Priority levels and places, together, among which one service's endpoints are told apart; those further away
/// are treated like the last.
pub const BALANCER_GROUPS: usize = 64;
/// Turns of round robin by weight that are listed, 4 bytes each; the order of more is computed.
pub const LISTED_TURNS: u64 = 16_384;
/// Points of a hash ring, 12 bytes each: 26 for each of [`PROXY_ENDPOINTS`].
pub const RING_POINTS: usize = 1 << 18;
/// Entries of a Maglev table, 4 bytes each: a prime, Envoy's bound.
pub const MAGLEV_ENTRIES: usize = 5_000_011;
// Active health checks of a proxy.
/// Checks of one service's endpoints under way at once; further ones are late.
pub const HEALTH_CHECKS: usize = 32;
/// Bytes of a gRPC health check's answer: the message has a few.
pub const HEALTH_ANSWER_BYTES: usize = 4 << 10;
// HTTP/2 of a proxy.
/// Frames beside its requests that a caller may send at once on a connection; requests and time bring more.
pub const HTTP2_CONTROL_FRAMES: u32 = 10_000;
/// Requests of a connection that its caller may take back within about a second of making them, half of all at
/// least; Envoy's bound.
pub const HTTP2_RESETS: u32 = 500;
/// How long a caller may take nothing of a response before its stream is reset.
pub const HTTP2_STALLED: Duration = Duration::from_secs(60);
/// Hints a proxy holds at once.
pub const HINTS: usize = 1_024;

// Routes of a proxy.
/// Routes of one service.
pub const ROUTES: usize = 10_000;
/// Memory of one regular expression of a route, compiled; a larger one is refused.
pub const ROUTE_PATTERN_BYTES: usize = 1 << 20;
/// Buckets of rate limits by header or caller that a proxy keeps, at some 30 bytes each; beyond that those that
/// were not used for longest are forgotten, and are full when they are asked for again.
pub const RATE_LIMIT_KEYS: usize = 65_536;
/// Buckets of rate limits that proxies share, of one proxy, at some 150 bytes each; beyond that those that were not used
/// for longest are forgotten and counted.
pub const RATE_LIMIT_SHARED_KEYS: usize = 16_384;
/// How often a proxy reports what came for the limits that it shares, while something comes.
pub const RATE_REPORT: Duration = Duration::from_millis(500);
/// Limits in one report; a proxy with more sends several, and of a longer one the rest is dropped and counted.
pub const RATE_DEMANDS: usize = 1_024;
/// Claims of proxies on limits that they share, of all proxies together, at some 60 bytes each; further ones are
/// dropped and counted, and their proxies go by the whole limit.
pub const RATE_CLAIMS: usize = 200_000;
/// The part of a limit that was granted holds for the time of the limit, but at least this: six reports …
pub const RATE_LEASE_LEAST: Duration = Duration::from_secs(3);
/// … and at most this, however slow the limit is.
pub const RATE_LEASE_MOST: Duration = Duration::from_secs(60);
/// Longest `Retry-After` that a retry waits for, as Envoy.
pub const RETRY_AFTER: Duration = Duration::from_secs(300);

/// Longest lease of a hint.
pub const HINT_TTL: Duration = Duration::from_secs(60);

/// Bytes of a connection that are looked at to tell its protocol; one that is not told by then is opaque. RFC 9112
/// section 3 wants request lines of 8000 bytes understood.
pub const DETECT_BYTES: usize = 8 << 10;
/// Bytes of a word that may be an HTTP method: the longest registered one has 17.
pub const METHOD_BYTES: usize = 32;
/// Bytes of a PROXY header of version 1, the end of its line included, as its specification has it.
pub const PROXY_HEADER_V1_BYTES: usize = 107;
/// Bytes of a PROXY header of version 2: addresses need 232 at most, the rest is for its TLVs.
pub const PROXY_HEADER_V2_BYTES: usize = 4 << 10;
/// TLVs that a PROXY header holds: its specification has a dozen kinds.
pub const PROXY_HEADER_TLVS: usize = 64;
/// Bytes of a PROXY header's unique id, as its specification has it.
pub const PROXY_HEADER_UNIQUE_ID_BYTES: usize = 128;
/// Bytes of a connection in which its ClientHello ends, heads of records included: two of the largest records. With
/// post-quantum key shares one has 2 KiB.
pub const CLIENT_HELLO_BYTES: usize = 32 << 10;
/// Protocols kept of those that a ClientHello offers; the first are the preferred ones.
pub const CLIENT_HELLO_PROTOCOLS: usize = 64;

/// Length of an SQL or PromQL text.
pub const QUERY_BYTES: usize = 64 << 10;
/// Operators in one SQL text: a longer flat chain overflows the planner's stack.
pub const SQL_OPERATORS: usize = 2_000;
/// Tables that one SQL text may read, views counted by what they are made of.
pub const SQL_RELATIONS: usize = 200;
/// Nesting of a PromQL expression.
pub const PROMQL_DEPTH: usize = 128;
/// Rows of an SQL answer; a longer one is cut and says so.
pub const SQL_ROWS: usize = 100_000;
/// Samples that one PromQL query may load, as Prometheus' default.
pub const PROMQL_SAMPLES: usize = 50_000_000;
/// Points per series of a range query, as Prometheus.
pub const PROMQL_POINTS: usize = 11_000;
/// How long a query may take.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(60);
/// Memory that all running queries share.
pub const QUERY_MEMORY_BYTES: usize = 4 << 30;
/// Queries running at once, as Prometheus; further ones wait their turn within their deadline …
pub const QUERIES: usize = 20;
/// … and this many may: those beyond are refused, since hardly any would have its turn in time.
pub const QUERIES_WAITING: usize = 1_000;
/// How long a PromQL query may take unless configured, as Prometheus.
pub const PROMQL_TIMEOUT: Duration = Duration::from_secs(120);
/// Series that one selector of a PromQL query may match: label sets of some 500 bytes each.
pub const PROMQL_SERIES: usize = 1_000_000;
/// Remote reads running at once, as Prometheus; further ones wait.
pub const REMOTE_READS: usize = 10;
/// Bytes of a remote read's request, before and after decompression.
pub const REMOTE_READ_REQUEST_BYTES: usize = 1 << 20;
/// Bytes of a frame of a streamed remote read, as Prometheus: the readers of others take no larger ones.
pub const REMOTE_READ_FRAME_BYTES: usize = 1 << 20;
/// Entries of each list in `status/tsdb`, as Prometheus.
pub const TSDB_STATUS_ENTRIES: usize = 10_000;

/// Edges (client, server, endpoint, protocol) that the analysis keeps state for.
pub const ANALYSIS_EDGES: usize = 10_000;
/// Increments of the service graph that wait to be stored: four buckets of every edge.
pub const EDGE_INCREMENTS: usize = 4 * ANALYSIS_EDGES;
/// Series of the edge metric whose labels the live loop holds: an edge has a series for each way a call may
/// end, each side that reports it, and probes.
pub const LIVE_SERIES: usize = 8 * ANALYSIS_EDGES;
/// Changes of findings and hints that wait to be stored; the oldest are dropped and counted.
pub const LIVE_EVENTS: usize = 10 * ANALYSIS_FINDINGS;
/// Newest spans that are looked through for examples of a finding: some milliseconds' work.
pub const EXAMPLE_SPANS: usize = 50_000;
/// Findings for which examples are looked for in one round; further ones get theirs when they change.
pub const EXAMPLE_FINDINGS: usize = 8;
/// Client and server spans that wait for each other to become a call of the service graph: 16 MB or so.
pub const SPAN_HALVES: usize = 100_000;
/// Findings and hints open at once.
pub const ANALYSIS_FINDINGS: usize = 1_000;

/// Services and operations of the load generator: four templates of some 500 bytes per operation and worker.
pub const LOAD_OPERATIONS: usize = 10_000;
/// Spans, log records or points in one generated request: some 570 bytes each, within [`OTLP_REQUEST_BYTES`].
pub const LOAD_BATCH: usize = 50_000;
/// Connections of the load generator.
pub const LOAD_CONNECTIONS: usize = 256;
/// Largest piece of an imported file that is held to be read: a trace of Jaeger's, an entry of
/// `resourceSpans` and its like, or a length-prefixed message. A line may hold any number of them.
pub const IMPORT_PIECE_BYTES: usize = OTLP_REQUEST_BYTES;
/// Bytes of an import's requests: below the 4 MiB that gRPC servers take by default …
pub const IMPORT_BATCH_BYTES: usize = 1 << 20;
/// … and their records; a larger record travels alone.
pub const IMPORT_BATCH_RECORDS: usize = 8_192;
/// Requests of an import that are read ahead of the one that is being stored.
pub const IMPORT_AHEAD: usize = 4;
/// Faults of imported files that are told one by one; further ones are counted.
pub const IMPORT_FAULTS: usize = 20;
/// Requests of the demo's open-loop load in flight at once; further ones are not sent and counted as failed.
pub const DEMO_IN_FLIGHT: usize = 1_024;
/// Bytes of a request or an answer that a demo service reads.
pub const DEMO_BODY_BYTES: usize = 64 << 10;
/// Seconds of client-side statistics that the demo keeps.
pub const DEMO_SECONDS: usize = 120;
/// Memory for the footers and page indexes of files that were searched lately: a file of 256 MiB has some 20 MiB of them.
pub const FILE_METADATA_BYTES: usize = 256 << 20;
/// Memory for the block filters of files that were searched lately: those of a hundred million spans or so.
pub const BLOCK_FILTER_BYTES: usize = 256 << 20;
/// Memory for the footers of files of samples that PromQL read lately.
pub const SERIES_FOOTER_BYTES: usize = 64 << 20;
/// Memory for where series are in row groups that PromQL read lately: 24 bytes for each series in each row group.
pub const SERIES_RUN_BYTES: usize = 64 << 20;
/// Memory for the samples that PromQL read lately: 12 bytes each.
pub const DECODED_SAMPLE_BYTES: usize = 128 << 20;
/// Bytes of a file that compaction writes, at most; from half of that on a file is left alone.
pub const COMPACTED_FILE_BYTES: u64 = 256 << 20;

/// Bytes of one exposition, uncompressed, whatever a job allows.
pub const SCRAPE_BODY_BYTES: usize = 64 << 20;
/// Scrapes under way at once; further ones wait their turn.
pub const SCRAPES: usize = 1_000;
/// Series of one target that are remembered from one scrape to the next.
pub const SCRAPE_SERIES: usize = SERIES;
/// Targets of one job, whatever it allows; further ones are left out and told.
pub const SCRAPE_TARGETS: usize = 50_000;
/// Targets of one job that are listed although relabelling dropped them, unless the job says less.
pub const SCRAPE_DROPPED: usize = 10_000;
/// Families of one target whose type and help are remembered.
pub const SCRAPE_FAMILIES: usize = 100_000;
/// Bytes of an answer of a discovery server.
pub const DISCOVERY_BODY_BYTES: usize = 64 << 20;
/// Bytes of a configuration file, or of a file that it names.
pub const CONFIG_FILE_BYTES: u64 = 16 << 20;
/// Files that one pattern of a configuration may match.
pub const CONFIG_FILES: usize = 10_000;
/// Services of one Consul that are watched; further ones are left out and told.
pub const CONSUL_SERVICES: usize = 10_000;
/// Sets of targets that wait to be taken by their job.
pub const DISCOVERY_QUEUE: usize = 64;
/// How far ahead of the clock the time of a scraped sample may be, as in Prometheus.
pub const SCRAPE_AHEAD: Duration = Duration::from_secs(600);
/// Bytes of a file of rules, or of tests of rules.
pub const RULE_FILE_BYTES: usize = 16 << 20;
/// Groups of a file, and of all files together.
pub const RULE_GROUPS: usize = 10_000;
/// Rules of a file, and of all files together.
pub const RULES: usize = 100_000;
/// Labels that a rule or its group adds.
pub const RULE_LABELS: usize = SERIES_LABELS;
/// Mistakes of a file that are told; a person who has put these right runs the check again.
pub const RULE_MISTAKES: usize = 1_000;
/// How long the query of a rule may take: a group that waits for longer evaluates nothing.
pub const RULE_QUERY: Duration = Duration::from_secs(120);
/// Samples that one evaluation of a rule may yield; more of them fail it.
pub const RULE_RESULTS: usize = 200_000;
/// Alerts of one rule that are pending or firing; more of them fail its evaluation and are forgotten.
pub const ALERTS_PER_RULE: usize = 20_000;
/// Series of removed rules that wait to be ended; further ones end by the look-back.
pub const RULE_STALE_SERIES: usize = RULE_RESULTS;
/// How long a resolved alert is kept, so that the notifiers hear of it even if they were away.
pub const ALERT_RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);
/// Deepest nesting of a template's parts.
pub const TEMPLATE_DEPTH: usize = 100;
/// Bodies and pipelines within each other while a template is expanded: below a megabyte of stack.
pub const TEMPLATE_CALLS: usize = 200;
/// Parts that the expansion of a template visits.
pub const TEMPLATE_STEPS: usize = 100_000;
/// Bytes that a template may become.
pub const TEMPLATE_TEXT_BYTES: usize = 64 << 10;
/// Queries that the templates of one evaluation ask; each is asked once.
pub const TEMPLATE_QUERIES: usize = 1_000;
/// Alerts that wait to be sent to one receiver; beyond that the oldest go and are counted.
pub const NOTIFY_QUEUE: usize = 10_000;
/// Alerts of one request to a receiver.
pub const NOTIFY_BATCH: usize = 64;
/// How long a request to a receiver may take unless it is told otherwise.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request to a receiver is tried before its alerts are dropped and counted; they are told again anyway.
pub const NOTIFY_TRIES: u32 = 4;
/// Pause before the second try; it doubles with each.
pub const NOTIFY_BACKOFF: Duration = Duration::from_millis(500);
/// Firing alerts that a webhook remembers having been told of; further ones it hears of again.
pub const NOTIFY_KNOWN: usize = 50_000;

/// Threads of a proxy, each with its own listeners.
pub const PROXY_WORKERS: usize = 64;
/// Listeners of one address that go from one process to the next, far below the kernel's 253 of a message.
pub const TAKEOVER_DESCRIPTORS: usize = PROXY_WORKERS;
/// Addresses that are asked for or given: one for each service, and the other listeners.
pub const TAKEOVER_ADDRESSES: usize = PROXY_SERVICES + 16;
/// Bytes of a message between the processes: a name and an address, or a reason.
pub const TAKEOVER_MESSAGE_BYTES: usize = 4 << 10;
/// Bytes of what is written to an admin page: a filter of log lines.
pub const ADMIN_BODY_BYTES: usize = 4 << 10;
