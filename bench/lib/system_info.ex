defmodule PowRedisCache.Bench.SystemInfo do
  @moduledoc "The machine, and the versions of everything that is measured."

  alias PowRedisCache.RedisServer
  alias PowRedisCache.Bench.{Eredis, Redix}

  def read do
    %{
      cpu: field("/proc/cpuinfo", ~r/^model name\s*: (.*)$/m),
      cores: System.schedulers_online(),
      memory_mb:
        "/proc/meminfo" |> field(~r/^MemTotal:\s+(\d+) kB$/m) |> String.to_integer() |> div(1024),
      kernel: output_of("uname", ["-sr"]),
      os: field("/etc/os-release", ~r/^PRETTY_NAME="(.*)"$/m)
    }
  end

  def versions do
    %{
      pow_redis_cache: to_string(Application.spec(:pow_redis_cache, :vsn)),
      commit: output_of("git", ["rev-parse", "--short", "HEAD"]),
      elixir: System.version(),
      otp: System.otp_release(),
      redis: RedisServer.program() |> output_of(["--version"]) |> capture(~r/v=(\S+)/),
      rustc: output_of("rustc", ["--version"]),
      redix: if(Redix.available?(), do: Redix.version()),
      eredis: if(Eredis.available?(), do: Eredis.version())
    }
  end

  defp field(file, pattern), do: file |> File.read!() |> capture(pattern)

  defp capture(text, pattern) do
    case Regex.run(pattern, text) do
      [_, found] -> found
      nil -> "unknown"
    end
  end

  defp output_of(program, arguments) do
    {output, 0} = System.cmd(program, arguments, stderr_to_stdout: true)
    String.trim(output)
  end
end
