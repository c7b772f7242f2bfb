alias PowRedisCache.{Cluster, RedisServer, SchedulerStalls}

# With REDIS_TOPOLOGY=cluster, what all tests share is a cluster, of which this is one node.
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
# What takes long runs where bin/test-matrix asks for it.
exclude = if System.get_env("POW_REDIS_CACHE_LONG"), do: [], else: [:long]
ExUnit.after_suite(fn _results -> PowRedisCache.FailureSummary.print() end)
formatters = [ExUnit.CLIFormatter, PowRedisCache.FailureSummary]

ExUnit.start(
  capture_log: true,
  exclude: exclude,
  formatters: formatters,
  colors: [enabled: IO.ANSI.enabled?()],
  # A busy machine takes its time. What waits for something in a test has limits of its own.
  timeout: 600_000
)

# What is tested writes as it does where there is no terminal.
Application.put_env(:elixir, :ansi_enabled, false)
