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
      sign_ins: :integer
    ]
  )

ms = Keyword.get(options, :ms, 1_000)

settings = %{
  rounds: Keyword.get(options, :rounds, 3),
  ms: ms,
  # A shorter run has fewer.
  sign_ins: Keyword.get(options, :sign_ins, 100 * ms),
  only: Keyword.get(options, :only, ""),
  proxy: Keyword.fetch!(options, :proxy)
}

scenarios = Runner.run(Scenario.all(), settings)
other_metrics = OtherMetrics.run(settings)

run = %{
  machine: SystemInfo.read(),
  versions: SystemInfo.versions(),
  settings: Map.take(settings, [:rounds, :ms]),
  clients: Client.names(),
  scenarios: scenarios,
  other_metrics: other_metrics
}

File.write!(Keyword.fetch!(options, :output), Json.encode(run))
