# Runs the benchmarks and writes the results as JSON. Start it with bin/bench.

alias PowRedisCache.Bench.{Client, OtherMetrics, Json, SystemInfo, Scenario, Runner}

{options, []} =
  OptionParser.parse!(System.argv(),
    strict: [
      output: :string,
      proxy: :string,
      only: :string,
      rounds: :integer,
      ms: :integer,
      other_metrics: :boolean
    ]
  )

settings = %{
  rounds: Keyword.get(options, :rounds, 3),
  ms: Keyword.get(options, :ms, 1_000),
  only: Keyword.get(options, :only, ""),
  proxy: Keyword.fetch!(options, :proxy)
}

scenarios = Runner.run(Scenario.all(), settings)

other_metrics =
  if Keyword.get(options, :other_metrics, true), do: OtherMetrics.run(settings), else: %{}

run = %{
  machine: SystemInfo.read(),
  versions: SystemInfo.versions(),
  settings: Map.take(settings, [:rounds, :ms]),
  clients: Client.names(),
  scenarios: scenarios,
  other_metrics: other_metrics
}

File.write!(Keyword.fetch!(options, :output), Json.encode(run))
