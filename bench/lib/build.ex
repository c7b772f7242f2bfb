defmodule PowRedisCache.Bench.Build do
  @moduledoc "Measures the time of a build from scratch and the size of the library."

  @root File.cwd!()
  @files ~w(Cargo.toml Cargo.lock native lib mix mix.exs README.md)

  def run do
    folder = Path.join(System.tmp_dir!(), "pow_redis_cache_build_#{System.pid()}")
    File.mkdir_p!(folder)
    for file <- @files, do: File.cp_r!(Path.join(@root, file), Path.join(folder, file))

    # Crates are fetched first, so that the network is not measured.
    run!("cargo", ["fetch", "--locked"], folder)
    begin = System.monotonic_time(:millisecond)
    run!("mix", ["compile"], folder)
    seconds = (System.monotonic_time(:millisecond) - begin) / 1_000
    library = Path.join(folder, "priv/native/pow_redis_nif.so")
    bytes = File.stat!(library).size
    run!("strip", [library], folder)
    stripped = File.stat!(library).size
    File.rm_rf!(folder)
    %{compile_from_scratch_s: seconds, library_bytes: bytes, stripped_bytes: stripped}
  end

  defp run!(program, arguments, folder) do
    environment = [{"MIX_ENV", "prod"}, {"CARGO_TARGET_DIR", nil}]

    {output, status} =
      System.cmd(program, arguments, cd: folder, env: environment, stderr_to_stdout: true)

    if status != 0, do: raise("#{program} failed: #{output}")
  end
end
