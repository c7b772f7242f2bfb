# A stub with the functions used here, if no dependency provides `:telemetry`.
unless Map.has_key?(Mix.Project.deps_paths(), :telemetry) do
  defmodule :telemetry do
    @moduledoc false

    def attach_many(id, events, function, config) do
      :persistent_term.put(__MODULE__, Map.put(handlers(), id, {events, function, config}))
      :ok
    end

    def detach(id), do: :persistent_term.put(__MODULE__, Map.delete(handlers(), id))

    def execute(event, measurements, metadata) do
      for {_id, {events, function, config}} <- handlers(), event in events do
        function.(event, measurements, metadata, config)
      end

      :ok
    end

    defp handlers, do: :persistent_term.get(__MODULE__, %{})
  end
end
