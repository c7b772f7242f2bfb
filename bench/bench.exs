# Measures and writes what it saw as JSON. Run it with bin/bench.

alias PowRedisCache.Bench.{Client, OtherMetrics, Json, SystemInfo, Scenario, Runner}

{options, []} =
  OptionParser.parse!(System.argv(),
    strict: [
      output: :string,
      proxy: :string,
      only: :string,
      rounds: :integer,
      ms: :integer,
      extras: :boolean
    ]
  )

settings = %{
  rounds: Keyword.get(options, :rounds, 3),
  ms: Keyword.get(options, :ms, 1_000),
  only: Keyword.get(options, :only, ""),
  proxy: Keyword.fetch!(options, :proxy)
}

rows = Runner.run(Scenario.all(), settings)
extras = if Keyword.get(options, :extras, true), do: OtherMetrics.run(settings), else: %{}

run = %{
  machine: SystemInfo.read(),
  versions: SystemInfo.versions(),
  settings: Map.take(settings, [:rounds, :ms]),
  contenders: Client.names(),
  rows: rows,
  extras: extras
}

File.write!(Keyword.fetch!(options, :output), Json.encode(run))
