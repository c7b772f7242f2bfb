alias PowRedisCache.{Cluster, RedisServer, SchedulerStalls}

# With REDIS_TOPOLOGY=cluster, the shared server is a node of a cluster.
server =
  if System.get_env("REDIS_TOPOLOGY") == "cluster" do
    cluster = Cluster.start!()
    :persistent_term.put(Cluster, cluster)
    ExUnit.after_suite(fn _results -> Cluster.stop(cluster) end)
    %RedisServer{port: hd(cluster.nodes).port}
  else
    server = RedisServer.start!()
    ExUnit.after_suite(fn _results -> RedisServer.stop(server) end)
    server
  end

:persistent_term.put(RedisServer, server)
{:ok, _pid} = SchedulerStalls.start_link([])
Logger.configure(level: :warning)
# bin/test-matrix also runs the long tests.
exclude = if System.get_env("POW_REDIS_CACHE_LONG"), do: [], else: [:long]
# Those that depend on which thread runs first, and repeat until it was the right one.
exclude = [:chance | exclude]
# Those that look at values in Redis, or share them with Pow's example backend.
exclude = if System.get_env("SEAL"), do: [:plain | exclude], else: exclude
ExUnit.after_suite(fn _results -> PowRedisCache.FailureSummary.print() end)
formatters = [ExUnit.CLIFormatter, PowRedisCache.FailureSummary]

ExUnit.start(
  capture_log: true,
  exclude: exclude,
  formatters: formatters,
  colors: [enabled: IO.ANSI.enabled?()],
  # Generous, since the machine may be busy. Waits inside tests have their own deadlines.
  timeout: 600_000
)

# Output under test is written as without a terminal.
Application.put_env(:elixir, :ansi_enabled, false)
