//! PromQL: parser with positions, plan, evaluation over series × steps.
