defmodule PowRedisCache.Bench.SystemInfo do
  @moduledoc "What machine this is, and the versions of all that takes part."

  alias PowRedisCache.RedisServer
  alias PowRedisCache.Bench.{Eredis, Redix}

  def read do
    %{
      cpu: field("/proc/cpuinfo", ~r/^model name\s*: (.*)$/m),
      cores: System.schedulers_online(),
      memory_mb:
        "/proc/meminfo" |> field(~r/^MemTotal:\s+(\d+) kB$/m) |> String.to_integer() |> div(1024),
      kernel: said("uname", ["-sr"]),
      os: field("/etc/os-release", ~r/^PRETTY_NAME="(.*)"$/m)
    }
  end

  def versions do
    %{
      pow_redis_cache: to_string(Application.spec(:pow_redis_cache, :vsn)),
      commit: said("git", ["rev-parse", "--short", "HEAD"]),
      elixir: System.version(),
      otp: System.otp_release(),
      redis: RedisServer.program() |> said(["--version"]) |> capture(~r/v=(\S+)/),
      rustc: said("rustc", ["--version"]),
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

  defp said(program, arguments) do
    {output, 0} = System.cmd(program, arguments, stderr_to_stdout: true)
    String.trim(output)
  end
end
