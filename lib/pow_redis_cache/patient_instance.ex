defmodule PowRedisCache.PatientInstance do
  @moduledoc false
  # A second instance with the options of a running one, but a longer timeout: for calls that read much.

  use PowRedisCache

  alias PowRedisCache.{Instance, Server}

  @doc """
  Calls a function with a backend whose calls may take `timeout` milliseconds, and stops it afterwards. If
  `backend` is not a running instance, the function gets `backend` itself.
  """
  def with_backend(backend, timeout, function) do
    if backend in Instance.names() do
      options = Server.options(backend).()

      options = %{options | name: __MODULE__, timeout: timeout, near_cache: false}

      case Server.start_link(options) do
        {:ok, pid} -> call_and_stop(function, pid)
        {:error, {:already_started, _pid}} -> raise ArgumentError, "another one is running here"
      end
    else
      function.(backend)
    end
  end

  defp call_and_stop(function, pid) do
    function.(__MODULE__)
  after
    GenServer.stop(pid)
  end
end
