if match?({:module, _}, Code.ensure_compiled(Plug.Conn)) do
  defmodule PowRedisCache.HttpServer do
    @moduledoc """
    A small HTTP/1.1 server for plugs: each connection takes one GET request, in a process of its own.

    A request with the header `x-gate: before PORT` stops at a `PowRedisCache.Gate` before it is handled.
    """

    alias PowRedisCache.Gate

    @secret String.duplicate("secret key base ", 4)

    @doc """
    Starts a server that calls the function with a conn, for which it sends a response. Returns its port.
    """
    def start!(handler) do
      caller = self()

      # Not linked: the caller may be the process of a remote call.
      server =
        spawn(fn ->
          options = [:binary, packet: :http_bin, active: false, backlog: 64]
          {:ok, listener} = :gen_tcp.listen(0, options)
          send(caller, {self(), :inet.port(listener)})
          accept(listener, handler)
        end)

      receive do
        {^server, {:ok, port}} -> port
      after
        60_000 -> raise "the HTTP server did not start"
      end
    end

    defp accept(listener, handler) do
      {:ok, socket} = :gen_tcp.accept(listener)
      worker = spawn(fn -> serve(handler) end)
      :ok = :gen_tcp.controlling_process(socket, worker)
      send(worker, {:socket, socket})
      accept(listener, handler)
    end

    defp serve(handler) do
      receive do
        {:socket, socket} ->
          {:ok, {:http_request, _method, {:abs_path, path}, _version}} = :gen_tcp.recv(socket, 0)
          headers = headers(socket)
          :ok = :inet.setopts(socket, packet: :raw)
          Gate.stop_at("before", List.keyfind(headers, "x-gate", 0))
          socket |> conn(path, headers) |> handler.()
          :gen_tcp.close(socket)
      end
    end

    defp headers(socket) do
      case :gen_tcp.recv(socket, 0) do
        {:ok, {:http_header, _length, name, _reserved, value}} ->
          [{name |> to_string() |> String.downcase(), value} | headers(socket)]

        {:ok, :http_eoh} ->
          []
      end
    end

    # The stand-in for a conn has fewer fields.
    defp conn(socket, path, headers) do
      struct!(Plug.Conn, %{
        adapter: {__MODULE__, socket},
        method: "GET",
        path_info: String.split(path, "/", trim: true),
        request_path: path,
        req_headers: headers,
        secret_key_base: @secret
      })
      |> put_owner()
    end

    defp put_owner(%{owner: _owner} = conn), do: %{conn | owner: self()}
    defp put_owner(conn), do: conn

    def send_resp(socket, status, headers, body) do
      lines = for {name, value} <- headers, do: [name, ": ", value, "\r\n"]
      length = body |> IO.iodata_length() |> to_string()
      head = ["HTTP/1.1 ", to_string(status), " x\r\ncontent-length: ", length, "\r\n", lines]
      :ok = :gen_tcp.send(socket, [head, "connection: close\r\n\r\n", body])
      {:ok, nil, socket}
    end
  end
end
