# Measures and writes what it saw as JSON. Run it with bin/bench.

alias PowRedisCache.Bench.{Contender, Extras, Json, Machine, Row, Runner}

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

rows = Runner.run(Row.all(), settings)
extras = if Keyword.get(options, :extras, true), do: Extras.run(settings), else: %{}

run = %{
  machine: Machine.read(),
  versions: Machine.versions(),
  settings: Map.take(settings, [:rounds, :ms]),
  contenders: Contender.names(),
  rows: rows,
  extras: extras
}

File.write!(Keyword.fetch!(options, :output), Json.encode(run))
