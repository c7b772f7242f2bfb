defmodule PowRedisCache.CapacityTest do
  # bench/capacity.py computes what its formulas say, and the guide has what it computes.
  use ExUnit.Case, async: true

  @root Path.expand("../..", __DIR__)
  @script Path.join(@root, "bench/capacity.py")
  @guide Path.join(@root, "guides/capacity.md")

  @python System.find_executable("python3")
  # The newest run with the figures, if there is one.
  @run @root
       |> Path.join("bench/runs/20*.json")
       |> Path.wildcard()
       |> Enum.filter(&(File.read!(&1) =~ ~s("footprint")))
       |> Enum.max(fn -> nil end)

  if @python == nil, do: @moduletag(skip: "python3 is not installed")

  @figures """
  {"other_metrics": {
    "memory": {"per_idle_connection": {"redis": 10000}},
    "footprint": [{
      "client": "pow_redis_cache", "sign_ins": 100, "bytes": 1000, "bytes_half_signed_out": 700,
      "sign_in": {"commands": 7, "redis_cpu_us": 20},
      "page_view": {"commands": 2, "redis_cpu_us": 5},
      "sign_out": {"commands": 3, "redis_cpu_us": 10}
    }],
    "cluster_load": [{
      "client": "pow_redis_cache", "users": 10, "largest_key": {"bytes": 500, "name": "a"},
      "nodes": [
        {
          "bytes": 4000,
          "sign_in": {"commands": 30, "redis_cpu_us": 200},
          "page_view": {"commands": 10, "redis_cpu_us": 50},
          "list_sessions": {"commands": 10, "redis_cpu_us": 50},
          "sign_out": {"commands": 10, "redis_cpu_us": 100}
        },
        {
          "bytes": 8000,
          "sign_in": {"commands": 60, "redis_cpu_us": 400},
          "page_view": {"commands": 10, "redis_cpu_us": 100},
          "list_sessions": {"commands": 10, "redis_cpu_us": 50},
          "sign_out": {"commands": 10, "redis_cpu_us": 200}
        }
      ]
    }]
  }}
  """

  setup_all do
    run = Path.join(System.tmp_dir!(), "pow_redis_cache_run_#{System.pid()}.json")
    File.write!(run, @figures)
    on_exit(fn -> File.rm!(run) end)
    [run: run]
  end

  test "computes a single primary and a Cluster from a run", %{run: run} do
    needs = needs([run, "--sessions", "1.8e6", "9e8"])

    assert needs == %{
             "sessions" => ["1,800,000", "900,000,000"],
             # 1 per 900 s, and 1 per 300 s.
             "sign-ins a second" => ["2,000", "1,000,000"],
             "page views a second" => ["6,000", "3,000,000"],
             # 1,000 bytes, and (4,000 + 8,000) / 10 on a Cluster.
             "data" => ["1.8 GB", "1,080.0 GB"],
             # 2,000 * (20 + 10) µs + 6,000 * 5 µs, and 10^6 * (60 + 30) µs + 3 * 10^6 * 15 µs.
             "Redis's CPU time" => ["0.09 cores", "135.00 cores"],
             "topology" => ["Sentinel", "Cluster"],
             # A node has room for 16 GB * 0.6 / 1.15 - 6,000 * 10,000 bytes = 8.288 GB.
             "primaries for the memory" => ["1", "131"],
             "primaries for the CPU time" => ["1", "270"],
             "primaries" => ["1", "270"],
             "Redis nodes" => ["2", "540"],
             "memory of these nodes" => ["32 GB", "8,640 GB"],
             "web nodes" => ["6", "3,000"],
             "connections of a primary" => ["12", "6,000"],
             "connections of a web node" => ["2", "540"]
           }
  end

  test "computes with other inputs", %{run: run} do
    assumptions = ~w(--life 1800 --page-view-interval 600 --node-memory 100 --reserve 0
      --fragmentation 1 --load 1 --replicas 0 --pool-size 42 --web-node-page-views 1000)

    figures = ~w(--sign-in-us 0.001 --sign-out-us 0.001 --page-view-us 0.001)
    needs = needs([run, "--sessions", "6e5", "1.5e8"] ++ assumptions ++ figures)

    assert needs["sign-ins a second"] == ["333", "83,333"]
    assert needs["Redis's CPU time"] == ["0.00 cores", "0.00 cores"]
    assert needs["topology"] == ["standalone", "Cluster"]
    # 150 GB do not fit into one node, and 180 GB fit into two, but a Cluster has three.
    assert needs["primaries for the memory"] == ["1", "2"]
    assert needs["Redis nodes"] == ["1", "3"]
    assert needs["connections of a primary"] == ["42", "10,500 (more than `maxclients`)"]
    assert needs["connections of a web node"] == ["42", "126"]

    [_footprint, _cluster_load, per_node, _needs] = tables([run, "--bytes", "2000"])
    assert per_node =~ "| sessions in a GB of data | 500,000 | 500,000 |"
  end

  test "shows how evenly the nodes are loaded", %{run: run} do
    [_footprint, cluster_load | _] = tables([run])
    # 60 : 30, 90 : 60, and 8,000 : 4,000.
    assert cluster_load =~ "| pow_redis_cache | 2.00 | 1.50 | 2.00 | 500 bytes, `a` |"
  end

  test "renews the tables of a document", %{run: run} do
    document = run <> ".md"
    File.cp!(@guide, document)
    on_exit(fn -> File.rm!(document) end)
    tables = tables([run, "--update", document])
    assert tables_in(File.read!(document)) == tables
    text = &Regex.replace(~r/^\|.*\n/m, &1, "")
    assert text.(File.read!(document)) == text.(File.read!(@guide))
  end

  if @run == nil, do: @tag(skip: "no run of the benchmark has the figures")

  test "the guide has the tables of the newest run" do
    assert tables_in(File.read!(@guide)) == tables([@run])
  end

  test "explains itself, and refuses inputs that make no sense" do
    {help, 0} = System.cmd(@python, [@script, "--help"])
    assert help =~ "connections          = web nodes x pool size"
    {message, 2} = System.cmd(@python, [@script, "--life", "0"], stderr_to_stdout: true)
    assert message =~ "argument --life: expected a positive number, got: 0"
  end

  # The table of needs: its columns by the names of its rows.
  defp needs(arguments) do
    for row <- arguments |> tables() |> List.last() |> String.split("\n"),
        not (row =~ ~r/^\|-/),
        [name | columns] = row |> String.trim("|") |> String.split("|"),
        into: %{},
        do: {String.trim(name), Enum.map(columns, &String.trim/1)}
  end

  defp tables(arguments) do
    {output, 0} = System.cmd(@python, [@script | arguments], stderr_to_stdout: true)
    output |> String.trim() |> String.split("\n\n")
  end

  defp tables_in(document) do
    for [table] <- Regex.scan(~r/(?:^\|.*\n)+/m, document), do: String.trim_trailing(table)
  end
end
