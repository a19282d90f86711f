//! `weir load`: the generator of [`crate::load`], run to its end.

use crate::process;

pub(super) fn run(args: crate::load::LoadArgs) -> anyhow::Result<()> {
    super::on_server_runtime(async {
        let stop = process::shutdown_on_signal()?;
        crate::load::run(args, process::wall_clock(), stop, &mut std::io::stdout()).await?;
        Ok(())
    })
}
